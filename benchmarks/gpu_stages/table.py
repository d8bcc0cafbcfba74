"""The tables of ``benchmarks/README.md`` from the JSON lines of ``gpu_check.py``."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from common import table
from gpu_stages.stage import Record

README = Path(__file__).parents[1] / "README.md"
RECORDS = README.with_name("gpu_check.jsonl")
"""The records that stand in the README, once a GPU was had."""
BEGIN, END = "<!-- gpu_check: begin -->", "<!-- gpu_check: end -->"
EMPTY = "No GPU has been used yet, so that nothing stands here."
SHAPES = ("llama3-8b", "qwen2-7b", "gemma-7b")


def read(path: Path) -> list[Record]:
    """Returns the records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path) -> None:
    """Puts the tables of a file of records into the README, which keeps these records beside it."""
    records = read(path)
    RECORDS.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text("\n".join([before + BEGIN, *lines(records), END + after]), encoding="utf-8")


def section() -> str:
    """Returns what must stand in the README: the tables, or that no GPU was used."""
    return "\n".join(lines(read(RECORDS))) if RECORDS.exists() else EMPTY


def lines(records: list[Record]) -> list[str]:
    """Returns the lines of the tables, in the order of the stages."""
    by_stage: dict[str, list[Record]] = {}
    for record in records:
        by_stage.setdefault(record["stage"], []).append(record)
    told = [f"{k} {v}" for k, v in by_stage["machine"][0].items() if k != "stage"]
    found = [", ".join(told) + ".", "", *_ends(by_stage)]
    if "parity" in by_stage:
        found += ["", *_parity(by_stage["parity"])]
    for shape in SHAPES:
        if shape in by_stage:
            found += ["", f"**{shape}**", "", *_shape(by_stage[shape])]
    for name in ("quant", "compile", "embedded"):
        if name in by_stage:
            found += ["", f"**{name}**", "", *_plain(by_stage[name])]
    return found


def _ends(by_stage: dict[str, list[Record]]) -> list[str]:
    rows = []
    for stage, records in by_stage.items():
        for record in records:
            if record.get("part") == "end":
                ended = record.get("skipped") or {0: "passed", None: "cut short"}.get(
                    record["code"], "failed"
                )
                rows.append([stage, ended, _short(record.get("seconds", 0.0))])
    return table(["stage", "how it ended", "seconds"], rows)


def _parity(records: list[Record]) -> list[str]:
    """Counts of the tests, and the largest difference by dtype and kernel."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for record in records:
        if "max_difference" in record:
            test = str(record["test"]).partition("::")[2].partition("[")[0]
            place = (test, str(record.get("dtype", "")), str(record.get("kernel", "")))
            groups.setdefault(place, []).append(float(record["max_difference"]))
    counts = next((r for r in records if r.get("part") == "summary"), {})
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if type(count) is int)
    rows = [
        [*place, len(found), _short(median(found)), _short(max(found))]
        for place, found in sorted(groups.items())
    ]
    header = ["test", "dtype", "kernel", "cases", "median difference", "largest"]
    return [f"Tests: {said or 'cut short'}.", "", *table(header, rows)]


def _shape(records: Iterable[Record]) -> list[str]:
    """What was measured of a shape: a row a figure of each part."""
    rows = []
    for record in records:
        part = record.get("part")
        if part == "end":
            continue
        which = [str(record[key]) for key in ("tokens", "layer") if key in record]
        title = " ".join([str(part), *which])
        figures = {
            name: _short(value)
            for name, value in record.items()
            if type(value) in (int, float) and name not in ("tokens", "layer")
        }
        if "matrix_gflop_per_s" in record:
            figures["matrix_tflop_per_s"] = _short(max(record["matrix_gflop_per_s"].values()) / 1e3)
        rows.append([title, ", ".join(f"{name} {value}" for name, value in figures.items())])
    return table(["part", "figures"], rows)


def _plain(records: Iterable[Record]) -> list[str]:
    rows = []
    for record in records:
        if record.get("part") == "end":
            continue
        told = {k: v for k, v in record.items() if k not in ("stage", "part")}
        told = {k: v for k, v in told.items() if not isinstance(v, dict | list)}
        rows.append(
            [record.get("part", ""), ", ".join(f"{k} {_short(v)}" for k, v in told.items())]
        )
    return table(["part", "figures"], rows)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("\n", " ")[:200]
