"""A user's file is read as it is meant, and what is broken in it is named with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from nasalign.data.file_format import FileFormat
from nasalign.data.records import BinaryExample, Question
from nasalign.data.user_file import UserFile, load_file
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


def read(folder: Path, name: str, text: str | bytes, **how: Any) -> UserFile:
    return load_file(write(folder, name, text), FileFormat(**how))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_same_rows_come_from_every_format(
    tmp_path: Path, name: str, bom: str, line_end: str
) -> None:
    text = bom + TEXTS[name].replace("\n", line_end)
    assert read(tmp_path, name, text).records == RECORDS


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_only_a_line_feed_ends_a_json_line(tmp_path: Path, sign: str) -> None:
    row = json.dumps({"question": f"a{sign}b?", "answer": "x"}, ensure_ascii=False)
    assert sign in row
    (record,) = read(tmp_path, "rows.jsonl", row).records
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
    assert load_file(str(write(tmp_path, "rows.jsonl", text))).records == [
        BinaryExample("Is it?", *record, "Physics.")
    ]


@pytest.mark.parametrize(
    ("answer", "text"), [(0, "0"), (1, "1"), (2.5, "2.5"), (8.0, "8"), ("None", "None")]
)
def test_a_number_is_an_answer(tmp_path: Path, answer: Any, text: str) -> None:
    row = {"question": "How many?", "answer": answer, "aliases": "", "context": None}
    (record,) = read(tmp_path, "rows.json", json.dumps([row])).records
    assert record == Question("How many?", text, subject="How many?")


GOOD = '{"question": "q?", "answer": "a"}'


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.jsonl", GOOD + "\n{'question'}\n", r"a\.jsonl, line 2 is not valid JSON"),
        ("a.jsonl", GOOD + "\n[1]\n", r"a\.jsonl, line 2 is not an object"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1 has lists or objects nested too deep"),
        ("a.jsonl", '{"question": ' + "1" * 5_000 + "}", r"line 1 has a number of too many digits"),
        ("a.jsonl", "\n \n", r"a\.jsonl holds no rows"),
        ("a.json", f"[{GOOD}, 3]", r"a\.json, row 2 is not an object"),
        ("a.json", GOOD, r"a\.json must hold a JSON array"),
        ("a.json", GOOD + "\n{]", r"a\.json, line 2 is not valid JSON"),
        ("a.json", "[{]", r"a\.json is not valid JSON"),
        ("a.json", '[\n{"question":\n]', r"a\.json.* line 3"),
        ("a.json", f"[{GOOD}] []", r"a\.json is not valid JSON: Extra data"),
        ("a.json", "[]", r"a\.json holds no rows"),
        ("a.json", "", r"a\.json is not valid JSON"),
        ("a.csv", "question,answer\nWho, then?,Jane\n", r"line 2 has more fields .* a ','"),
        ("a.csv", "question;answer\nWho; then?;Jane\n", r"line 2 has more fields .* a ';'"),
        ("a.csv", "question,answer,answer\nq,a,b\n", r"has the column 'answer' twice"),
        ("a.csv", 'question,answer\nq,"a\nr,b\n', r"a\.csv, .*line \d"),
        ("a.csv", "", r"a\.csv holds no rows"),
        ("a.csv", "question,answer\n\n", r"a\.csv holds no rows"),
        ("a.csv", "question,answer\n,\n", r"a\.csv holds no rows"),
        (
            "a.csv",
            b"question,answer\nq\xe9,a\n",
            r"is not UTF-8 text: .* line 2, byte 2; save it as",
        ),
        ("a.csv", b"\xff\xfeq\0\0", r"is not UTF-16 text"),
        ("a.txt", "question,answer\nq,a\n", r"a\.txt is not \.jsonl, \.json, \.csv"),
        (
            "a.csv.gz",
            b"question,answer\nq,a\n",
            r"Cannot read the data file .*: Not a gzipped file",
        ),
        ("a.parquet", b"PAR1PAR1", r"a\.parquet is not a Parquet file that can be read"),
        ("a.xlsx", b"PK", r"a\.xlsx is"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_file_is_named_with_its_place(
    tmp_path: Path, name: str, text: str | bytes, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        load_file(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


BROKEN = [
    ('{"question": "q?", "answer": ""}', "no text in 'answer'"),
    ('{"question": " ", "answer": "a"}', "no text in 'question'"),
    ('{"question": ["q"], "answer": "a"}', "no text in 'question'"),
    ('{"question": NaN, "answer": "a"}', "no text in 'question'"),
    ('{"question": "q", "answer": null}', "no text in 'answer'"),
    ('{"question": "q", "answer": NaN}', "no text in 'answer'"),
    ('{"question": "q", "answer": []}', "no text in 'answer'"),
    ('{"question": "q", "answer": "a", "context": {}}', "no text in 'context'"),
    ('{"question": "q", "answer": "a", "aliases": 5}', "neither a text nor a list in 'aliases'"),
    ('{"question": "q", "answer": "\\ud800"}', "half a character in 'answer'"),
    ('{"question": "q", "answer": "c", "options": "a|b"}', "none of its options"),
    ('{"question": "q", "answer": "a", "id": "7"}', "its id is there already"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN)
def test_a_row_that_does_not_fit_is_left_out_and_counted(
    tmp_path: Path, row: str, reason: str
) -> None:
    good = '{"question": "Who?", "answer": "Ann", "id": "7"}'
    text = f"{good}\n{row}\n{row.replace('7', '8')}\n"
    file = read(tmp_path, "a.jsonl", text)
    left_out = 1 if '"id"' in row else 2
    assert [record.answer for record in file.records] == ["Ann", "a"][: 3 - left_out]
    (found,) = file.dropped.rows
    assert reason in found
    places = [one.where.rpartition("/")[2] for one in file.dropped.rows[found]]
    assert places == ["a.jsonl, line 2", "a.jsonl, line 3"][:left_out]
    with pytest.raises(DataError, match=r"a\.jsonl, line 2 has .* The columns found: 'question', "):
        read(tmp_path, "a.jsonl", text, strict=True)


def test_a_file_without_a_row_that_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no usable row\. Left out: 2 \(it has no text in 'answer'"
    ):
        read(tmp_path, "a.csv", "question,answer\nq,\nr,\n")


def test_rows_that_are_empty_are_counted_and_no_mistake(tmp_path: Path) -> None:
    text = "question,answer,,\r\nWho?,Ann,,\r\n,,,\r\n , ,,\r\n"
    file = read(tmp_path, "a.csv", text, strict=True)
    assert len(file.records) == 1
    assert file.dropped.counts == {"the row is empty": 2}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read the data file .*absent\.csv: No such file"):
        load_file(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="There is no data 'absent'"):
        load_file("absent")
