"""Verdicts in other spellings are told over the whole file, said, or refused with the ways out."""

import json
from pathlib import Path
from typing import Any

import pytest

from nasalign.data.file_format import FileFormat
from nasalign.data.question_form import form_of
from nasalign.data.records import BinaryExample
from nasalign.data.user_file import UserFile, load_file
from nasalign.errors import DataError

CLOSED = ("Is a gull a bird?", "Is a gull a fish?", "Does snow melt?", "Can stones swim?")


def read(
    folder: Path,
    cells: list[Any],
    questions: tuple[str, ...] = CLOSED,
    column: str = "answer",
    labels: str | None = None,
) -> UserFile:
    """A file of so many questions, one after the other, with some cells in a column."""
    asked = [questions[place % len(questions)] for place in range(len(cells))]
    rows = [{"question": text, column: cell} for text, cell in zip(asked, cells, strict=True)]
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return load_file(path, FileFormat.of(labels=labels))


def said(file: UserFile) -> list[bool | str | None]:
    return [one.label if isinstance(one, BinaryExample) else one.answer for one in file.records]


@pytest.mark.parametrize("column", ["answer", "label"])
@pytest.mark.parametrize(
    "cells",
    [
        [1, 0, 1, 0],
        [1.0, 0.0, 1.0, 0.0],
        ["1", "0", "1.0", "0.0"],
        ["Y", "N", "T", "F"],
        ["y", "n", "y", "n"],
        [True, False, "true", "FALSE"],
        ["Yes.", "No.", "yes!", "'no'"],
        ["Yes, it is one.", "No, it swims.", "Yes: in spring", "No - they sink"],
        ["Ja", "Nein", "ja, schon", "nein!"],
        ["Oui", "Non", "oui", "non."],
        ["Sí", "No", "sí", "no"],
        ["WAHR", "FALSCH", "Wahr", "falsch"],  # as a German Excel writes them
        ["VRAI", "FAUX", "vrai", "faux"],
        ["V", "F", "V", "F"],
        ["Ja", "Nee", "ja", "nee"],
        ["Ja", "Nei", "ja", "Nei"],
        ["\u2713", "\u2717", "\u2714", "\u2718"],
        ["Yes it is one", "No it swims", "yes", "no they sink"],
        ["Sim", "Não", "sim", "nao"],
        ["да", "нет", "Да, это так", "Нет."],
        ["是", "否", "是的\uff0c它是鸟。", "不是"],
        ["はい", "いいえ", "はい。", "いいえ。"],
        ["SUPPORTS", "REFUTES", "supports", "Refutes"],
        ["SUPPORTED", "REFUTED", "Supported", "refuted"],
        ["entailment", "contradiction", "entailment", "not_entailment"],
        ["correct", "incorrect", "Correct", "wrong"],
        ["relevant", "irrelevant", "Relevant", "not relevant"],
        ["relevant", "non-relevant", "relevant", "NOT_RELEVANT"],
        ["pass", "fail", "PASS", "failed"],
        [["yes"], ["no"], ["Yes", "yes"], ["No"]],
    ],
    ids=str,
)
def test_usual_spellings_are_verdicts(tmp_path: Path, cells: list[Any], column: str) -> None:
    file = read(tmp_path, cells, column=column)
    assert said(file) == [True, False, True, False]
    (note,) = file.notes
    assert note.startswith(f"The column {column} holds verdicts: ")
    assert file.facts["verdicts"] == {column: {"yes": 2, "no": 2}}


def test_what_was_recognised_is_said_with_counts(tmp_path: Path) -> None:
    file = read(tmp_path, ["Y", "N", "Y", "n", "maybe", "N/A", "maybe"])
    assert file.notes == [
        "The column answer holds verdicts: 'Y' as Yes (2), 'N' as No (2); neither, and left out: "
        "'maybe' (2), 'N/A' (1)."
    ]
    assert file.dropped.counts == {"its answer is neither Yes nor No": 3}


@pytest.mark.parametrize("column", ["answer", "label"])
@pytest.mark.parametrize(
    "third", ["maybe", "neutral", "Unclear", "NOT ENOUGH INFO", "unknown", "not_enough_info", "?"]
)
def test_a_third_value_is_never_an_answer(tmp_path: Path, third: str, column: str) -> None:
    file = read(tmp_path, ["yes", "no", third, third, third], column=column)
    assert said(file) == [True, False]
    assert file.dropped.counts == {f"its {column} is neither Yes nor No": 3}


def test_a_label_that_repeats_the_verdict_is_refused(tmp_path: Path) -> None:
    """Read as they stand, the second row would ask: is the answer No? And the label is false."""
    for yes, no in (("yes", "no"), (True, False), ("Ja.", "Nein.")):
        rows = [
            {"question": "Is it?", "answer": one, "label": one in ("yes", True, "Ja.")}
            for one in (yes, no)
        ]
        path = tmp_path / "mine.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(DataError, match="answer and label hold the same verdicts; give --col"):
            load_file(path)
        assert said(load_file(path, FileFormat.of(["answer="]))) == [True, False]
    rows = [{"question": "Is it?", "answer": one, "label": one == "no"} for one in ("yes", "no")]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [one.answer for one in load_file(path).records] == ["yes", "no"]  # answers to verify


def test_a_missing_cell_among_verdicts_is_left_out(tmp_path: Path) -> None:
    file = read(tmp_path, ["yes", "no", float("nan"), None, "NaN"])
    assert said(file) == [True, False]
    assert file.dropped.counts == {"it has no text in 'answer'": 3}


def test_an_own_word_among_many_verdicts_is_neither(tmp_path: Path) -> None:
    file = read(tmp_path, ["yes", "no"] * 4 + ["who knows"])
    assert (len(file.records), file.dropped.counts) == (8, {"its answer is neither Yes nor No": 1})


@pytest.mark.parametrize(
    ("cells", "ways"),
    [
        (["good", "bad", "good"], "--labels 'good/bad' or 'bad/good'"),
        (["toxic", "not toxic"], "--labels 'toxic/not toxic' or 'not toxic/toxic'"),
        (["positive", "negative"], "--labels"),
        ([0, 1, 2, 2], "--labels"),
        ([1, -1, 1], "--labels"),
        (["1", "-1", "1"], "--labels"),
        ([3, 4, 5], "--labels"),
        (["yes", "disputed", "disputed"], "--labels"),
        (["maybe", "unclear"], "--labels"),
        (["yes", "nope"], "--labels 'yes/nope' or"),
        (["Supported", "Disproved", "Supported"], "--labels 'Supported/Disproved' or"),
    ],
)
def test_labels_of_no_known_meaning_are_refused(
    tmp_path: Path, cells: list[Any], ways: str
) -> None:
    with pytest.raises(DataError, match=r"not clear which labels mean Yes .* column label holds"):
        read(tmp_path, cells, column="label")
    with pytest.raises(DataError, match=ways):
        read(tmp_path, cells, column="label")


@pytest.mark.parametrize("column", ["answer", "label"])
@pytest.mark.parametrize(
    ("labels", "cells", "expected", "dropped"),
    [
        ("good/bad", ["good", "Bad", "GOOD."], [True, False, True], {}),
        ("fine|ok/poor", ["ok", "poor", "fine", "odd"], [True, False, True], 1),
        ("0/1", [0, 1, 0.0, "1"], [True, False, True, False], {}),  # the other way round
        ("no/yes", ["yes", "no"], [False, True], {}),
        ("0/2/1", [0, 1, 2], [True, False], 1),
        ("SUPPORTS/REFUTES/NEI", ["SUPPORTS", "NEI", "REFUTES"], [True, False], 1),
    ],
)
def test_labels_are_read_as_the_user_says(
    tmp_path: Path, labels: str, cells: list[Any], expected: list[bool], dropped: Any, column: str
) -> None:
    file = read(tmp_path, cells, column=column, labels=labels)
    assert said(file) == expected
    assert sum(file.dropped.counts.values()) == (dropped or 0)


ANSWERS = ("Who wrote Emma?", "Which river is at Ulm?", "What is his surname?", "Is ice cold?")


def test_an_answer_that_is_called_no_stays_one(tmp_path: Path) -> None:
    file = read(tmp_path, ["Jane Austen", "Danube", "No", "yes"], ANSWERS)
    assert said(file) == ["Jane Austen", "Danube", "No", True]
    assert file.notes == ["The column answer holds short answers and verdicts: 'yes' as Yes (1)."]


def test_an_answer_that_may_be_either_is_left_out(tmp_path: Path) -> None:
    asked = ("Who wrote Emma?", "Symbol of nobelium?", "Is snow white?", "Symbol of gold?")
    file = read(tmp_path, ["Jane Austen", "No", "quite", "Au"], asked)
    assert said(file) == ["Jane Austen", "Au"]
    assert file.dropped.counts == {
        "its answer may be a verdict or a short answer; a label would tell": 1,
        "its answer is neither Yes nor No": 1,
    }


@pytest.mark.parametrize(
    ("questions", "cells", "labels"),
    [
        (("How many moons has Mars?", "How many suns are there?"), [0, 1], None),
        (("How many?", "How old?"), [1, 0, 12], None),
        (("The number of suns:", "The number of moons:"), [1, 0, 2], None),
        (("Symbol of silicon?", "Symbol of gold?"), ["Si", "Au"], None),
        (("Which gear?", "Which grade?"), ["N", "F"], None),
        (("It has a sun.", "It has a moon."), [1, 0], "none"),
        (("Is it so?", "Or is it not?"), ["yes", "no"], "none"),
        (("Which side?",), ["left", "right"], None),
    ],
)
def test_short_answers_stay_short_answers(
    tmp_path: Path, questions: tuple[str, ...], cells: list[Any], labels: str | None
) -> None:
    assert said(read(tmp_path, cells, questions, labels=labels)) == list(map(str, cells))


@pytest.mark.parametrize(
    ("questions", "cells"),
    [
        (("It has a sun.", "It has a moon."), [1, 0]),
        (("A fine day", "Rain"), ["good", "bad", "good", "bad"]),
        (("The house", "The garden"), ["left", "right"] * 3),
        (("It is so.",), ["yes"] * 4 + ["no"] * 4 + ["disputed"] * 6),
        (("It is so.",), ["pass"] * 3),
        (("It is so.",), ["yes", "nope"]),
    ],
)
def test_what_is_not_clear_is_refused_with_the_ways_out(
    tmp_path: Path, questions: tuple[str, ...], cells: list[Any]
) -> None:
    sentence = r"verdicts or short answers \(its column answer holds .*--labels '.*, or .* none"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, cells, questions)


def test_rows_without_a_label_among_labelled_ones(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Two and two?", "answer": "4", "label": True},
        {"question": "Two and three?", "answer": "4", "label": "false"},
        {"question": "Two and five?", "answer": "4", "label": float("nan")},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    file = load_file(path)
    assert said(file) == [True, False]
    assert file.dropped.counts == {"it has no label, as most rows of the file have": 1}
    # Where most rows have none, they are short answers.
    rows += [{"question": f"{number} and two?", "answer": f"{number + 2}"} for number in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert said(load_file(path)) == [True, False, "4", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("Is it so?", "closed"),
        ("is it so", "closed"),
        ("Don\u2019t stones float?", "closed"),
        ("Do you know who wrote Emma?", "closed"),
        ("Hat Venus einen Mond?", "closed"),
        ("Was the war long?", "closed"),
        ("Est-ce un poisson ?", "closed"),
        ("鲸鱼是鱼吗\uff1f", "closed"),
        ("Is it red or blue?", "unknown"),
        ("Who is it?", "open"),
        ("in which year was it", "open"),
        ("The author of Emma is who?", "open"),
        ("Was ist ein Wal?", "open"),
        ("Wer schrieb Emma?", "open"),
        ("谁写了它\uff1f", "open"),
        ("It is so.", "unknown"),
        ("People who smoke live longer.", "unknown"),
        ("Symbol of gold?", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_form_of_a_question(question: str, form: str) -> None:
    assert form_of(question) == form
