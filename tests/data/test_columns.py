"""Columns of other names are named, suggested and mapped; none is dropped without a word."""

import json
from pathlib import Path
from typing import Any

import pytest

from nasalign.data.file_format import FileFormat
from nasalign.data.records import BinaryExample, Question
from nasalign.data.user_file import UserFile, load_file
from nasalign.errors import DataError


def read(folder: Path, rows: list[dict[str, Any]], *columns: str, **how: Any) -> UserFile:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return load_file(path, FileFormat.of(columns, **how))


@pytest.mark.parametrize(
    ("row", "suggestion"),
    [
        ({"question": "q?", "answer": "yes", "passage": "p"}, "context=passage"),
        ({"question": "q?", "answer": "yes", "evidence": "p"}, "context=evidence"),
        ({"question": "q?", "answer": "yes", "contxt": "p"}, "context=contxt"),
        ({"question": "q?", "answer": "yes", "Contexts": ["p"]}, "context=Contexts"),
        ({"question": "q?", "answer": "yes", "text": "p"}, "context=text"),
        ({"question": "q?", "answer": "a", "verdict": False}, "label=verdict"),
        ({"question": "q?", "answer": "a", "goldLabel": 0}, "label=goldLabel"),
        ({"question": "q?", "answer": "a", "gold": 0}, "label=gold"),
        ({"question": "q?", "label": 1, "response": "r"}, "answer=response"),
    ],
)
def test_a_near_name_of_what_is_missing_stops_with_both_ways_out(
    tmp_path: Path, row: dict[str, Any], suggestion: str
) -> None:
    ours, _, name = suggestion.partition("=")
    sentence = rf"{name!r} is not read as {ours}; give --columns {suggestion}, or --columns {ours}="
    with pytest.raises(DataError, match=sentence) as caught:
        read(tmp_path, [row])
    assert "Its columns are " in str(caught.value)
    (with_it,) = read(tmp_path, [row], suggestion).records
    value = row[name][0] if isinstance(row[name], list) else row[name]
    if ours == "label":
        assert isinstance(with_it, BinaryExample)
        assert with_it.label is bool(value) if value in (0, 1) else True
    else:
        assert getattr(with_it, ours) == value
    without = read(tmp_path, [row], f"{ours}=")
    assert getattr(without.records[0], ours, None) in (None, "")
    assert without.facts["unread"] == {name: 1}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"claim": "c", "label": 1}, "no column question; give --columns question=claim. Its"),
        ({"statement": "c", "label": 1}, "question=statement"),
        ({"query": "c", "answer": "a"}, "question=query"),
        ({"Input": "c", "Output": "yes"}, "no column answer or label; .*question=Input,answer=Out"),
        ({"quesiton": "c", "anwser": "a"}, "question=quesiton,answer=anwser"),
        ({"claim": "c", "evidence": "e", "verdict": 1}, "question=claim,context=evidence,label=v"),
        ({"premise": "p", "hypothesis": "h", "label": 1}, "question=hypothesis,context=premise"),
        ({"text": "c", "label": 1}, "question=text"),
        ({"question": "q", "target": "yes"}, "answer=target"),
        ({"question": "q", "class": 1}, "answer=class"),
        ({"a1": "q", "b1": "x"}, "question=COLUMN,answer=COLUMN. Its columns are 'a1', 'b1'"),
    ],
)
def test_what_is_missing_is_suggested_from_what_is_there(
    tmp_path: Path, row: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read(tmp_path, [row, row])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Question", " question", "QUESTION ", "question:", "\ufeffquestion"]
)
def test_a_name_is_known_by_its_letters(tmp_path: Path, name: str) -> None:
    (record,) = read(tmp_path, [{name: "Who?", "ANSWER": "Ann", "Wrong Answer": "Bob"}]).records
    assert record == Question("Who?", "Ann", wrong_answer="Bob", subject="Who?")


def test_other_columns_are_named_and_counted(tmp_path: Path) -> None:
    row = {"question": "Who?", "answer": "Ann"}
    extra = {"source": "web", "split": "", "passage_id": 7, "alias": "A"}
    file = read(tmp_path, [row | extra, row | {"question": "What?", "source": "book"}])
    assert file.notes == [
        "Columns that are not read, with their rows: 'source' (2), 'passage_id' (1), 'alias' (1). "
        "To read one: --columns aliases=alias."
    ]
    assert file.facts == {
        "columns": {"question": "question", "answer": "answer"},
        "unread": {"source": 2, "passage_id": 1, "alias": 1},
        "verdicts": {},
    }


def test_a_column_of_no_use_beside_a_label_is_named(tmp_path: Path) -> None:
    file = read(tmp_path, [{"question": "Is it?", "label": 1, "aliases": "a", "wrong_answer": ""}])
    assert "Of no use in rows with a verdict: aliases (1)." in file.notes


def test_columns_are_mapped_whatever_else_is_there(tmp_path: Path) -> None:
    rows = [{"question": "q1", "My claim, in short": "It is so.", "answer": True, "n": 1}]
    file = read(tmp_path, rows, "question=My claim, in short,label=answer", "answer=")
    assert file.records == [BinaryExample("It is so.", True)]
    assert file.facts["unread"] == {"question": 1, "n": 1}


def test_what_the_file_does_not_have_is_told(tmp_path: Path) -> None:
    row = {"question": "q?", "answer": "a"}
    given = {"group_by": "team", "labels": "good/bad"}
    file = read(tmp_path, [row], "context=evidnce,subject=", labels="good/bad")
    assert file.lacking == ["context=evidnce", "--labels good/bad"]
    assert read(tmp_path, [row], **given).lacking == ["--group-by team", "--labels good/bad"]


def test_two_columns_for_one_are_refused(tmp_path: Path) -> None:
    row = {"question": "q?", "Question": "r?", "answer": "a"}
    with pytest.raises(
        DataError, match=r"'question', 'Question', of which one .* question=question"
    ):
        read(tmp_path, [row])
    (record,) = read(tmp_path, [row], "question=Question").records
    assert record.question == "r?"


@pytest.mark.parametrize(
    ("row", "way"),
    [
        ({"Question:\r\n": "q?", "question": "r?", "answer": "a"}, r"question=Question:\\r\\n."),
        ({"question": "q?", "answer": "yes", "passage\n": "p"}, r"context=passage\\n"),
    ],
)
def test_a_message_that_names_a_column_is_one_line(
    row: dict[str, str], way: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=way) as found:
        read(tmp_path, [row])
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("columns", "how", "sentence"),
    [
        (["question"], {}, "has 'question'; it looks like question=claim"),
        (["claim=question"], {}, "no column 'claim'; it takes question, answer"),
        (["question=a", "question=b"], {}, "two columns for question"),
        (["question=a,answer=a"], {}, "reads 'a' twice"),
        (["subject=a"], {"group_by": "a"}, "say the same"),
        ([], {"group_by": " "}, "needs the name of a column"),
        ([], {"labels": "yes"}, "what means Yes and what means No"),
        ([], {"labels": "a/b/c/d"}, "what means Yes and what means No"),
        ([], {"labels": "a/|"}, "what means Yes and what means No"),
        ([], {"labels": "Yes|y/no|YES"}, "each with different spellings"),
    ],
)
def test_an_option_of_another_form_is_refused(
    columns: list[str], how: dict[str, str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        FileFormat.of(columns, **how)  # type: ignore[arg-type]


def test_rows_are_grouped_by_a_column(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Is a?", "label": 1, "team": "Red"},
        {"question": "Is b?", "label": 0, "team": 7},
        {"question": "Is c?", "label": 0, "team": None},
    ]
    file = read(tmp_path, rows, group_by="team")
    assert [record.about for record in file.records] == ["red", "7"]
    assert file.dropped.counts == {"it has no text in 'team'": 1}


class TestTemplateColumns:
    """Columns that a user's own prompt template names."""

    ROWS = ({"claim": "It is so.", "doc": "d", "n": 3, "label": 1}, {"claim": "No.", "label": 0})

    def file(self, folder: Path, *names: str, rows: Any = ROWS) -> UserFile:
        path = folder / "mine.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return load_file(path, FileFormat(placeholders=names))

    def test_they_are_fields_in_their_order_and_make_the_question(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, "n", "claim")
        assert file.records == [
            BinaryExample("3 It is so.", True, fields=(("n", "3"), ("claim", "It is so.")))
        ]
        assert file.dropped.counts == {"it has no text in 'n'": 1}
        assert file.facts["unread"] == {"doc": 1}

    def test_a_column_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no column 'rule', which the prompt template names"):
            self.file(tmp_path, "claim", "rule")
        with pytest.raises(DataError, match="no column question; give --columns question=claim"):
            self.file(tmp_path, "question")

    def test_an_answer_that_is_named_is_verified_and_needs_no_label(self, tmp_path: Path) -> None:
        rows = [{"question": "Who?", "answer": "Ann", "hint": "h"}]
        (record,) = self.file(tmp_path, "question", "answer", "hint", rows=rows).records
        assert record == Question("Who?", "Ann", subject="Who?", fields=(("hint", "h"),))
        with pytest.raises(DataError, match=r"has no label, and the template does not name"):
            self.file(tmp_path, "question", "hint", rows=rows)
        verdict = [{"question": "Is it?", "answer": "yes", "hint": "h"}]
        with pytest.raises(DataError, match=r"no answer for the \{answer\} of the template"):
            self.file(tmp_path, "answer", "hint", rows=verdict)
