"""Results as tables of the console."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nasalign.evaluation.lean import LEAN
from nasalign.evaluation.metrics import METRICS
from nasalign.progress import number


def change_table(
    title: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    change: Mapping[str, tuple[float, float, float]],
) -> Table:
    """Returns the table before, after, change, with 95 % intervals."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("before", "after", "change", "95 % interval"):
        table.add_column(name, justify="right")
    for name in METRICS:
        difference, low, high = change[name]
        table.add_row(
            name.replace("_", " "),
            number(before[name]),
            number(after[name]),
            f"{difference:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
        )
    return table


def metrics_table(title: str, metrics: Mapping[str, Any]) -> Table:
    """Returns the table of one evaluation, with 95 % intervals."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name in (*METRICS, *[name for name in LEAN if name in metrics]):
        low, high = metrics["intervals"][name]
        table.add_row(
            name.replace("_", " "), number(metrics[name]), f"{number(low)} to {number(high)}"
        )
    return table


def lean_table(lean: Mapping[str, Any]) -> Table:
    """Returns which way a model leans: its two kinds of mistakes, with 95 % intervals."""
    ways = {"negative": "to No", "positive": "to Yes", "neither": "neither way"}
    table = Table(title=f"Leans {ways[lean['direction']]}", title_justify="left")
    table.add_column("")
    for name in ("share", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for name, title in (
        ("false_negatives", "right answers denied"),
        ("false_positives", "wrong answers affirmed"),
    ):
        low, high = lean[name]["interval"]
        interval = f"{number(low)} to {number(high)}"
        table.add_row(title, number(lean[name]["share"]), interval, str(lean[name]["n"]))
    return table


def columns_table(title: str, rows: Sequence[Sequence[str]], header: Sequence[str]) -> Table:
    """Returns a table of texts; columns after the first are right-aligned."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def knowledge_table(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns the metrics by what the model knows of a question (Appendix G)."""
    answers = {"Det-T": "right", "Det-F": "wrong", "Non-Det": "none", "unclear": "undecided"}
    table = Table(title="By its free answer to the question, Prompt II", title_justify="left")
    table.add_column("free answer")
    for name in ("n", "yes rate", "accuracy"):
        table.add_column(name, justify="right")
    for kind, metrics in parts.items():
        cells = (_with_interval(metrics, name) for name in ("yes_rate", "accuracy"))
        table.add_row(f"{answers[kind]} ({kind})", str(metrics["n"]), *cells)
    return table


def scenarios_table(title: str, result: Mapping[str, Any]) -> Table:
    """Returns the figures by scenario and by what the model knows, each over its interval."""
    names = ["yes_rate", "no_rate", "unsure_rate", "accuracy", "recall", "negative_bias"]
    found = result["scenarios"]
    if "unsure" not in found:
        names.remove("unsure_rate")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("scenario", "n", *names):
        table.add_column(name.replace("_", " "), justify="left" if name == "scenario" else "right")
    for scenario, parts in found.items():
        rows = {scenario: parts["all"]}
        rows |= {f"  {kind}": metrics for kind, metrics in parts["by_knowledge"].items()}
        for label, metrics in rows.items():
            cells = (_over_interval(metrics, name) for name in names)
            table.add_row(label, str(metrics["n"]), *cells)
        table.add_section()
    return table


def data_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the form of Table 8, with the paper's counts beside ours."""
    table = Table(title="Yes/no examples, (paper)", title_justify="left")
    table.add_column("data")
    for name in ("positives", "negatives", "total"):
        table.add_column(name, justify="right")
    for summary in summaries:
        paper = summary["paper"] or {}
        cells = (
            f"{summary[name]}" + (f" ({paper[name]})" if paper else "")
            for name in ("positives", "negatives", "total")
        )
        table.add_row(summary["dataset"], *cells)
    return table


def _with_interval(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics["intervals"][name]
    return f"{number(metrics[name])} ({number(low)} to {number(high)})"


def _over_interval(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics["intervals"][name]
    return f"{metrics[name]:.3f}\n{low:.2f} to {high:.2f}"


def sides_table(answers: Mapping[str, Mapping[str, Any]], words: tuple[str, str]) -> Table:
    """Returns the answers to one question, a row a side."""
    said = {"positive": words[0], "negative": words[1], "unsure": "I don't know"}
    table = Table("", "verdict", box=SIMPLE_HEAD, pad_edge=False)
    for name in (f"P({words[0]})", f"P({words[1]})", "model NAS"):
        table.add_column(name, justify="right")
    for side, answer in answers.items():
        figures = (number(answer[name]) for name in ("p_yes", "p_no", "nas"))
        table.add_row(side, said.get(answer["verdict"], "invalid"), *figures)
    return table


def free_table(answers: Mapping[str, Mapping[str, str]]) -> Table:
    """Returns free answers, a column a side."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for side in answers:
        table.add_column(side, overflow="fold")
    table.add_row(*(answer["text"] or "(nothing)" for answer in answers.values()))
    return table


def answer_tables(question: str, answers: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """Yields the table of answers to one question, and that of the heads that weigh most."""
    sides = list(answers)
    table = Table(title=question, title_justify="left")
    table.add_column("")
    for side in sides:
        table.add_column(side, justify="right")
    for name, title in (("p_yes", "P(Yes)"), ("p_no", "P(No)"), ("nas", "model NAS")):
        table.add_row(title, *(number(answers[side][name]) for side in sides))
    table.add_row("verdict", *(answers[side]["verdict"] for side in sides))
    yield table

    heads = Table(title="Heads that weigh most, by NAS", title_justify="left")
    for side in sides:
        heads.add_column(side)
        heads.add_column("NAS", justify="right")
    for row in zip(*(answers[side]["heads"] for side in sides), strict=True):
        cells = (
            (f"layer {head['layer']}, head {head['head']}", number(head["nas"])) for head in row
        )
        heads.add_row(*(text for cell in cells for text in cell))
    yield heads
