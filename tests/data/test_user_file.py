"""A user's file is read as it is meant, and what is broken in it is named with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from nasalign.data.records import BinaryExample, Question
from nasalign.data.user_file import load_file
from nasalign.errors import DataError

EMMA = "Who wrote Emma?"
ROWS: list[dict[str, Any]] = [
    {"question": EMMA, "answer": "Jane Austen", "aliases": ["Austen", "J. Austen"]},
    {"question": "Is it so?", "answer": "yes", "context": 'He said "so",\nand left.'},
    {"question": "Capital?", "answer": "Rome", "wrong_answer": "Pisa", "subject": "Italy"},
    {"question": "Two and two?", "answer": "4", "label": "false"},
]
RECORDS = [
    Question(EMMA, "Jane Austen", aliases=("Austen", "J. Austen"), subject=EMMA),
    BinaryExample("Is it so?", True, None, 'He said "so",\nand left.'),
    Question("Capital?", "Rome", wrong_answer="Pisa", subject="Italy"),
    BinaryExample("Two and two?", False, "4"),
]
CSV = (
    "question,answer,context,label,wrong_answer,aliases,subject\n"
    "Who wrote Emma?,Jane Austen,,,,Austen| J. Austen |,\n"
    "\n"
    'Is it so?,yes,"He said ""so"",\nand left.",,,,\n'
    "Capital?,Rome,,,Pisa,,Italy\n"
    "Two and two?,4,,false,,,\n"
)
TEXTS = {
    "rows.csv": CSV,
    "rows.json": json.dumps(ROWS, indent=1),
    "rows.jsonl": "\n\n".join(json.dumps(row) for row in ROWS) + "\n  \n",
}


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_same_rows_come_from_every_format(
    tmp_path: Path, name: str, bom: str, line_end: str
) -> None:
    text = bom + TEXTS[name].replace("\n", line_end)
    assert load_file(write(tmp_path, name, text)) == RECORDS


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_only_a_line_feed_ends_a_json_line(tmp_path: Path, sign: str) -> None:
    row = json.dumps({"question": f"a{sign}b?", "answer": "x"}, ensure_ascii=False)
    assert sign in row
    (record,) = load_file(write(tmp_path, "rows.jsonl", row))
    assert record.question == f"a{sign}b?"


@pytest.mark.parametrize(
    ("row", "record"),
    [
        *(({"answer": said}, (True, None)) for said in (True, "true", "Yes", " YES ")),
        *(({"answer": said}, (False, None)) for said in (False, "false", "No", "nO")),
        *(({"answer": 4, "label": said}, (True, "4")) for said in (True, 1, "1", "True", "yes")),
        *(({"label": said}, (False, None)) for said in (False, 0, "0", "No")),
    ],
)
def test_a_verdict_or_a_label_makes_a_yes_no_example(
    tmp_path: Path, row: dict[str, Any], record: tuple[bool, str | None]
) -> None:
    text = json.dumps({"question": "Is it?", "context": "Physics."} | row)
    assert load_file(str(write(tmp_path, "rows.jsonl", text))) == [
        BinaryExample("Is it?", *record, "Physics.")
    ]


@pytest.mark.parametrize(("answer", "text"), [(0, "0"), (1, "1"), (2.5, "2.5"), ("None", "None")])
def test_a_number_is_an_answer(tmp_path: Path, answer: Any, text: str) -> None:
    row = {"question": "How many?", "answer": answer, "aliases": "", "context": None}
    (record,) = load_file(write(tmp_path, "rows.json", json.dumps([row])))
    assert record == Question("How many?", text, subject="How many?")


GOOD = '{"question": "q?", "answer": "a"}'


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.jsonl", GOOD + '\n\n{"question": "q?"}\n', r"a\.jsonl, line 3 has no text in 'answer'"),
        ("a.jsonl", GOOD + "\n{'question'}\n", r"a\.jsonl, line 2 is not valid JSON"),
        ("a.jsonl", GOOD + "\n[1]\n", r"a\.jsonl, line 2 is not an object"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1 has lists or objects nested too deep"),
        ("a.jsonl", '{"question": ' + "1" * 5_000 + "}", r"line 1 has a number of too many digits"),
        ("a.jsonl", '{"question": " ", "answer": "a"}', r"line 1 has no text in 'question'"),
        ("a.jsonl", '{"question": ["q"], "answer": "a"}', r"line 1 has no text in 'question'"),
        ("a.jsonl", '{"question": "q", "answer": null}', r"line 1 has no text in 'answer'"),
        ("a.jsonl", '{"question": "q", "label": "maybe"}', r"line 1 has the label 'maybe'"),
        ("a.jsonl", '{"question": "q", "answer": "a", "context": {}}', r"line 1 .*'context'"),
        ("a.jsonl", '{"question": "q", "answer": "a", "aliases": 5}', r"line 1 .*'aliases'"),
        ("a.jsonl", "\n \n", r"a\.jsonl holds no rows"),
        ("a.json", f"[{GOOD}, {{}}]", r"a\.json, row 2 has no text in 'question'"),
        ("a.json", f"[{GOOD}, 3]", r"a\.json, row 2 is not an object"),
        ("a.json", GOOD, r"a\.json must hold a JSON array"),
        ("a.json", "[{]", r"a\.json is not valid JSON"),
        ("a.json", '[\n{"question":\n]', r"a\.json.* line 3"),
        ("a.json", f"[{GOOD}] []", r"a\.json is not valid JSON: Extra data"),
        ("a.json", "[]", r"a\.json holds no rows"),
        ("a.json", "", r"a\.json is not valid JSON"),
        ("a.csv", 'question,answer\n"two\nlines",a\nq,\n', r"a\.csv, line 4 .*'answer'"),
        ("a.csv", "question\nq?\n", r"a\.csv, line 2 has no text in 'answer'"),
        ("a.csv", "question;answer\nq;a\n", r"a\.csv, line 2 has no text in 'question'"),
        ("a.csv", "question,answer\nWho, then?,Jane\n", r"line 2 has more fields"),
        ("a.csv", "question,answer,answer\nq,a,b\n", r"has the column 'answer' twice"),
        ("a.csv", f"question,answer\nq,{'a' * 140_000}\n,b\n", r"line 3 .*'question'"),
        ("a.csv", 'question,answer\nq,"a\nr,b\n', r"a\.csv, .*line \d"),
        ("a.csv", "", r"a\.csv holds no rows"),
        ("a.csv", "question,answer\n\n", r"a\.csv holds no rows"),
        ("a.csv", b"question,answer\nq\xe9,a\n", r"is not UTF-8 text: .* at line 2, byte 2"),
        ("a.CSV", "question,answer\nq\n", r"a\.CSV, line 2 has no text in 'answer'"),
        ("a.txt", "question,answer\nq,a\n", r"a\.txt is neither \.jsonl nor \.json nor \.csv"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_row_or_file_is_named_with_its_place(
    tmp_path: Path, name: str, text: str | bytes, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        load_file(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read the data file .*absent\.csv: No such file"):
        load_file(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"Cannot read the data file .*: Is a directory"):
        load_file(tmp_path)
