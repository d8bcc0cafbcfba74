"""Tables as Excel, pandas and datasets write them are read as they are."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nasalign.data.file_format import FileFormat
from nasalign.data.reading import parts_of
from nasalign.data.records import BinaryExample, Question
from nasalign.data.row_files import read_data_rows
from nasalign.data.sources import load_data
from nasalign.data.user_file import load_file
from nasalign.errors import DataError

BEARS = Question("What do pandas eat?", "bamboo", subject="What do pandas eat?")
EMMA = Question("Who wrote Emma?", "Jane, Austen", subject="Who wrote Emma?")


def write(folder: Path, name: str, text: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        'question,answer\nWhat do pandas eat?,bamboo\nWho wrote Emma?,"Jane, Austen"\n',
        "question;answer\r\nWhat do pandas eat?;bamboo\r\nWho wrote Emma?;Jane, Austen\r\n",
        "question\tanswer\r\nWhat do pandas eat?\tbamboo\r\nWho wrote Emma?\tJane, Austen\r\n",
        "question|answer\nWhat do pandas eat?|bamboo\nWho wrote Emma?|Jane, Austen",
        'sep=,\r\nquestion,answer\r\nWhat do pandas eat?,bamboo\r\nWho wrote Emma?,"Jane, Austen"',
        '"sep=;"\r\nquestion;answer\r\nWhat do pandas eat?;bamboo\r\nWho wrote Emma?;Jane, Austen',
        "SEP=~\nquestion~answer\nWhat do pandas eat?~bamboo\nWho wrote Emma?~Jane, Austen\n",
        'question, answer\nWhat do pandas eat?, bamboo\nWho wrote Emma? , "Jane, Austen"\n',
        "\nQuestion;ANSWER ;;\nWhat do pandas eat?;bamboo;;\nWho wrote Emma?;Jane, Austen;;\n;;;\n",
        '"question";"answer, in short"\nWhat do pandas eat?;bamboo\nWho wrote Emma?;Jane, Austen\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_separator_and_encoding(tmp_path: Path, text: str, encoding: str) -> None:
    if encoding == "utf-16-be":
        text = f"\ufeff{text}"
    named = {"answer": "answer, in short"} if "in short" in text else {}
    assert load_file(write(tmp_path, "a.csv", text, encoding), FileFormat(named)).records == [
        BEARS,
        EMMA,
    ]


def test_lines_are_counted_behind_a_line_of_excel(tmp_path: Path) -> None:
    text = 'sep=;\r\nquestion;answer\r\n"two\r\nlines";a\r\nr;\r\n'
    file = load_file(write(tmp_path, "a.csv", text))
    (left_out,) = file.dropped.rows["it has no text in 'answer'"]
    assert left_out.where.endswith("a.csv, line 5")


def test_packed_files_and_other_endings(tmp_path: Path) -> None:
    table = b"question;answer\nWhat do pandas eat?;bamboo\n"
    lines = b'{"question": "What do pandas eat?", "answer": "bamboo"}\n'
    for name, content in (
        ("a.csv.gz", gzip.compress(table)),
        ("a.CSV.GZ", gzip.compress(table)),
        ("a.jsonl.gz", gzip.compress(lines)),
        ("a.json.gz", gzip.compress(b"[" + lines + b"]")),
        ("a.ndjson", lines),
        ("a.json", lines + b'{"question": "", "answer": ""}\n'),  # as some programs name JSON lines
        ("a.tsv", table.replace(b";", b"\t")),
        ("a.tsv.gz", gzip.compress(table.replace(b";", b"\t"))),
    ):
        loaded = load_data(str(write(tmp_path, name, content)))
        assert (loaded.name, loaded.records) == ("a", [BEARS]), name
    with pytest.raises(DataError, match="is broken: Compressed file ended"):
        load_file(write(tmp_path, "cut.csv.gz", gzip.compress(table)[:-12]))


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        (["Jane Austen", "Austen"], ["Jane Austen", "Austen"]),
        (["Austen", "", "Austen", 7], ["Austen", "7"]),
        ("['Jane Austen', 'Austen']", ["Jane Austen", "Austen"]),
        ('["Jane Austen", "Austen"]', ["Jane Austen", "Austen"]),
        ("['Jane Austen' 'Austen']", ["Jane Austen", "Austen"]),  # an array of numpy
        ("['O\\'Hara'\n \"D'Arcy\"]", ["O'Hara", "D'Arcy"]),
        ({"value": "Austen", "aliases": ["Jane Austen", "Austen"]}, ["Austen", "Jane Austen"]),
        ({"text": ["Austen", "Jane"], "answer_start": [3, 9]}, ["Austen", "Jane"]),
        (
            "{'text': array(['Austen', 'Jane'], dtype=object), 'answer_start': array([1, 2])}",
            ["Austen", "Jane"],
        ),
        ("[1, 2]", ["[1, 2]"]),  # an interval, or a list of numbers: the answer itself
        ("{1, 2}", ["{1, 2}"]),
        ("[Austen]", ["[Austen]"]),
        (7, ["7"]),
        (8.0, ["8"]),
        (2.5, ["2.5"]),
    ],
)
def test_a_list_of_right_answers(tmp_path: Path, cell: Any, answers: list[str]) -> None:
    row = {"question": "Who wrote Emma?", "answer": cell, "aliases": "J. A.|"}
    (record,) = load_file(write(tmp_path, "a.jsonl", json.dumps(row))).records
    assert isinstance(record, Question)
    assert (record.answer, record.aliases) == (answers[0], (*answers[1:], "J. A."))


def test_what_is_no_list_stays_as_it_is() -> None:
    for text in ("", "[", "[]]", "['a', 1]", "{'a': 1}", "[" * 5000 + "]" * 5000, "['a'"):
        assert parts_of(text) == text


def test_cells_that_pandas_leaves_empty(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {
            "question": ["Is snow white?", "Is snow red?", None],
            "context": [None, "Snow is white.", float("nan")],
            "answer": [None, None, None],
            "label": [1.0, 0.0, None],
        }
    )
    table.to_csv(tmp_path / "a.csv")
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    table.astype(str).to_csv(tmp_path / "b.csv", index=False)
    for name in ("a.csv", "a.jsonl", "b.csv"):
        file = load_file(tmp_path / name)
        assert file.records == [
            BinaryExample("Is snow white?", True),
            BinaryExample("Is snow red?", False, context="Snow is white."),
        ], name
        assert sum(file.dropped.counts.values()) == 1


def table_of_labels() -> Any:
    """A data set whose label 0 means Yes, by its names."""
    import datasets

    features = {
        "question": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["entailment", "not_entailment"]),
    }
    rows = {"question": ["Is it?", "Is it so?", "And?"], "label": [0, 1, -1]}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_class_labels_are_read_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all three the numbers alone would be read the other way round."""
    data, hub = table_of_labels(), tmp_path / "owner" / "name"
    data.to_parquet(tmp_path / "a [1].parquet")
    data.save_to_disk(str(tmp_path / "saved"))
    hub.mkdir(parents=True)
    files = ""
    for split in ("train", "test"):
        data.to_parquet(hub / f"{split}.parquet")
        files += f"  - split: {split}\n    path: {split}.parquet\n"
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
    (hub / "README.md").write_text(card)
    monkeypatch.chdir(tmp_path)
    for name in ("a [1].parquet", "saved", "owner/name/test"):
        loaded = load_data(name)
        labels = [record.label for record in loaded.records if isinstance(record, BinaryExample)]
        assert labels == [True, False], name
        assert loaded.dropped.counts == {"it has no label, as most rows of the file have": 1}
    assert loaded.name == "name-test"
    assert loaded.records[0].where == "owner/name/default/test, row 1"
    with pytest.raises(DataError, match="has the splits train, test; name one, as owner/name/tr"):
        load_data("owner/name")
    with pytest.raises(DataError, match="has the splits train, test"):
        load_data("owner/name/validation")


def test_a_folder_of_several_splits_says_which(tmp_path: Path) -> None:
    import datasets

    data = table_of_labels()
    datasets.DatasetDict(train=data, test=data).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match=r"holds the splits test, train; name one, as .*/SPLIT"):
        load_file(tmp_path / "both")
    assert len(load_file(tmp_path / "both" / "train").records) == 2


def test_what_the_hub_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file no/where, and as a data set it cannot be read"):
        load_data("no/where")
    with pytest.raises(DataError, match="neither a file, nor a folder, nor OWNER/NAME"):
        load_data("nowhere")


def test_parquet_is_read_in_its_order(tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.table({"question": [f"q{n}" for n in range(2500)], "answer": [1] * 2500})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = read_data_rows(tmp_path / "a.parquet")
    first = next(rows)
    assert (first.where, first.values) == (
        f"{tmp_path / 'a.parquet'}, row 1",
        {"question": "q0", "answer": 1},
    )
    assert sum(1 for _ in rows) == 2499
