"""Prompts, instructions and printed tables against the paper's text."""

import json
from pathlib import Path

from paper_literal import paper_text
from paper_literal.findings import Findings, Triple
from paper_literal.produced import Produced, nasalign
from paper_literal.prompts import FILES

_PRINTED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20)


def check_printed(paper: Path, made: Produced, findings: Findings) -> None:
    """Compares the rows of the paper in each CSV file with the paper's text."""
    for number in _PRINTED:
        compare_printed(number, paper, made, findings)


def compare_printed(number: int, paper: Path, made: Produced, findings: Findings) -> None:
    """Compares the rows of the paper in one CSV file with the table in the text."""
    about = "the paper's rows of the CSV against its text"
    rows = made.table(f"table-{number}", "paper")
    if not rows:
        findings.missing(f"Table {number}", about, "the product made no such table")
        return
    cells = paper_text.printed(paper, number)
    columns = {name for key in cells for name, _ in key} - {"value"}
    values = {value for key in cells for name, value in key if name == "value"}
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for row in rows:
        mine = {column: row[column] for column in columns}
        for value in values:
            seen[tuple(sorted({**mine, "value": value}.items()))] = row[value]
    triples: list[Triple] = [
        (str(dict(key)), _figure(seen.get(key, "absent")), _figure(cells.get(key, "absent")))
        for key in sorted(seen.keys() | cells.keys())
    ]
    findings.same(f"Table {number}", about, triples)


def _figure(text: str) -> float | str | None:
    if text in ("", "N/A"):
        return None
    return text if text == "absent" else float(text)


def check_samples(paper: Path, data: Path, folder: Path, findings: Findings) -> None:
    """Compares the printed samples of Table 14 with the rows of ``nasalign data``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, heading in (("strategyqa", "StrategyQA"), ("musique", "MuSiQue (Original)")):
        printed = paper_text.sample(paper, heading)
        out = folder / f"{name}.jsonl"
        source = [part for file in FILES[name] for part in ("--source", str(data / file))]
        nasalign("data", name, *source, "--out", str(out), "--overwrite")
        rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        found = next((row for row in rows if row["question"] == printed["Question"]), None)
        about = f"{name}: the printed sample against the row of nasalign data"
        if found is None:
            findings.missing("Table 14", about, "the slice does not hold it")
            continue
        begins = printed["Context"].removesuffix("...").strip()
        triples: list[Triple] = [("context", found["context"].startswith(begins), True)]
        if name == "strategyqa":
            triples.append(("label", found["label"], printed["Answer"] == "Yes"))
        findings.same("Table 14", about, triples)
