"""Prompts and tables, read from the paper's text."""

import re
from functools import cache
from pathlib import Path

DATASETS = {
    "StrategyQA": "strategyqa",
    "MuSiQue": "musique",
    "GSM8K": "gsm8k-rephrased",
    "MATH": "math-rephrased",
    "AR-LSAT": "ar-lsat",
}
HEADS = {
    "# of Positives": "positives",
    "# of Negatives": "negatives",
    "# of total": "total",
    "Corrected $p$ -value": "p_value",
    "Corrected p -value": "p_value",
    "$r^2$": "r_squared",
    "r^2": "r_squared",
}
SECOND = {19: "query projection only", 20: "random attention heads"}
"""What stands to the right of the slash; NASA in the other tables."""
SINGLE = {2: "overlap", 5: "accuracy", 6: "ece", 16: "share", 17: "shift_ratio", 18: "shift_ratio"}
"""Tables of one kind of figure, and its name in the CSV files."""

Cells = dict[tuple[tuple[str, str], ...], str]
"""A figure as it is printed, by what identifies it: sorted pairs of column and value."""


@cache
def text_of(paper: Path) -> str:
    files = sorted(paper.glob("*.txt")) if paper.is_dir() else [paper]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def boxed(paper: Path, title: str) -> str:
    """The prompt in the box of a title, with {question} and {label} for what is filled in."""
    found = re.search(rf"^{re.escape(title)}[^\n]*\n\n([^\n]+)\n", text_of(paper), re.MULTILINE)
    assert found, title
    return re.sub(r"\$\\\{(\w+)\\\}\$", r"{\1}", found[1])


def instructions(paper: Path) -> dict[str, str]:
    """Table 12: the instructions by the names of the settings."""
    found = re.search(
        r"Instruction in NASA\n(.+)\nInstruction type A\n(.+)\nInstruction type B\n(.+)\n",
        text_of(paper),
    )
    assert found
    return dict(zip(("nasa", "A", "B"), found.groups(), strict=True))


def conversation(paper: Path, heading: str) -> tuple[str, str]:
    """The system and the user message below a heading (Tables 13 and 15)."""
    _, _, after = text_of(paper).partition(heading)
    found = re.search(r"\[System\]\n(.+)\n\[User\]\n((?:.+\n)+?)(?=\n|Positive / Negative)", after)
    assert found, heading
    user = re.sub(r"\{\s*<i>([^<]+)</i>\s*\}", r"{\1}", found[2])
    return found[1].strip(), user.strip()


def sample(paper: Path, heading: str) -> dict[str, str]:
    """Table 14: context, question and answer below a heading."""
    _, _, after = text_of(paper).partition(f"<i>{heading}</i>\n")
    parts = re.findall(r"<p>(Context|Question|Answer): (.*?)</p>", after.partition("<i>")[0])
    return {name: text.replace(r"\$", "$") for name, text in parts}


def words(paper: Path) -> list[tuple[str, str]]:
    """Table 10: the pairs of answer words."""
    _, lines = _table(paper, 10)
    pairs = [tuple(line[0].split("/")) for line in lines[1:] if line[0]]
    return [(positive, negative) for positive, negative in pairs]


def printed(paper: Path, number: int) -> Cells:
    """Returns the figures of a table as they are printed."""
    _, (header, *lines) = _table(paper, number)
    labels = {2: 0, 1: 1, 5: 1, 6: 1, 8: 1, 9: 1}.get(number, 2)
    below = lines.pop(0) if number in (16, 17, 18) else []
    cells: Cells = {}
    above = [""] * labels
    for line in lines:
        above = [new or old for new, old in zip(line[:labels], above, strict=True)]
        about = dict(_label(number, *pair) for pair in zip(header[:labels], above, strict=True))
        about["value"] = about.get("value", SINGLE.get(number, ""))
        for place in range(labels, len(header)):
            figures = re.sub(r"[$\s]", "", line[place]).split("/")
            if number in (16, 17, 18):  # N/A is one figure
                figures = ["".join(line[place].split())]
                start = place - (place - labels) % 2
                column = {"response": header[start], "confidence": below[place]}
            else:
                column = _column(number, header[place])
            for figure, side in zip(figures, _sides(number, len(figures)), strict=True):
                key = tuple(sorted({**about, **column, **side}.items()))
                cells[key] = figure
    return cells


def _table(paper: Path, number: int) -> tuple[str, list[list[str]]]:
    pattern = rf"^Table {number}: (.*)\n\n((?:.+\n)+)"
    found = re.search(pattern, text_of(paper), re.MULTILINE)
    assert found, number
    return found[1], [line.split("\t") for line in found[2].splitlines()]


def _label(number: int, column: str, said: str) -> tuple[str, str]:
    if column in ("Dataset", "Data"):
        return "dataset", DATASETS[said.replace(" (Rephrased)", "")]
    if column == "Model":
        return ("value", said.lower()) if number == 1 else ("model", said.split(" /")[0])
    names = {"Type": "vocabulary", "It. Type": "instruction"}
    return names[column], said.lower() if column == "Type" else said


def _column(number: int, head: str) -> dict[str, str]:
    if number in (1, 2):
        return {"model": head}
    if number == 5:
        return {"dataset": DATASETS[head]}
    if number in (6, 10, 11):
        model = {6: "Mistral"}.get(number, "LLaMA")
        return {"model": model, "method": "NASA" if "NASA" in head else "baseline"}
    return {"value": HEADS.get(head, head.lower())}


def _sides(number: int, count: int) -> list[dict[str, str]]:
    if number in (10, 11):
        return [{"value": "accuracy"}, {"value": "f1"}]
    if number in (3, 4, 5, 7):
        return [{"method": "baseline"}, {"method": "NASA"}]
    if number in SECOND:
        return [{"method": "NASA"}, {"method": SECOND[number]}]
    return [{}] * count
