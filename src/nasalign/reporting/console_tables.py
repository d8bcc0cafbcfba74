"""Results as tables of the console, and what is said of an export that is not exact."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nasalign.adapters.adapter_file import Reduction
from nasalign.adapters.rounding import Rounding
from nasalign.adapters.scaling import Calibration
from nasalign.evaluation.metrics import LEAN, METRICS
from nasalign.models.companions import Copied
from nasalign.reporting.formats import (
    METRIC_NAMES,
    SPACE,
    between,
    number,
    signed,
    value_or_why,
    with_interval,
)
from nasalign.reporting.report.story import Verdict


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print what a run comes to: its headline, and the notes that go with it."""
    console.print(f"\n{verdict.label}", style="bold", highlight=False)
    # Into a file each sentence goes on one line.
    whole = not console.is_terminal
    for text in (verdict.sentence, *(f"* {note}" for note in verdict.notes)):
        console.print(text.replace(SPACE, " "), highlight=False, soft_wrap=whole)


def columns_table(
    title: str, rows: Sequence[Sequence[str]], header: Sequence[str], **options: Any
) -> Table:
    """Return a table of texts; columns after the first are right-aligned."""
    table = Table(title=title, title_justify="left", **options)
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def change_table(
    title: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    change: Mapping[str, tuple[float, float, float]],
) -> Table:
    """Return the table before, after, change, with 95 % intervals."""
    rows = []
    for name, (value, *bounds) in change.items():
        sides = (value_or_why(name, side[name]) for side in (before, after))
        moved = "-" if math.isnan(value) else signed(value)
        rows.append((METRIC_NAMES[name], *sides, moved, between(bounds, sign=True)))
    return columns_table(title, rows, ("", "before", "after", "change", "95 % interval"))


def metrics_table(title: str, metrics: Mapping[str, Any]) -> Table:
    """Return the table of one evaluation, with 95 % intervals."""
    rows = [
        (
            METRIC_NAMES[name],
            value_or_why(name, metrics[name]),
            between(metrics["intervals"][name]),
        )
        for name in (*METRICS, *LEAN)
        if name in metrics
    ]
    return columns_table(title, rows, ("", "value", "95 % interval"))


def lean_table(lean: Mapping[str, Any]) -> Table:
    """Return which way a model leans: its two kinds of mistakes, with 95 % intervals."""
    ways = {"negative": "to No", "positive": "to Yes", "neither": "neither way"}
    names = {"false_negatives": "right answers denied"}
    names["false_positives"] = "wrong answers affirmed"
    rows = [
        (title, number(lean[name]["share"]), between(lean[name]["interval"]), str(lean[name]["n"]))
        for name, title in names.items()
    ]
    title = f"Leans {ways[lean['direction']]}"
    return columns_table(title, rows, ("", "share", "95 % interval", "n"))


def knowledge_table(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the metrics by what the model knows of a question (Appendix G)."""
    names = ("yes_rate", "accuracy")
    answers = {"Det-T": "right", "Det-F": "wrong", "Non-Det": "none", "unclear": "undecided"}
    rows = [
        (
            f"{answers[kind]} ({kind})",
            str(of["n"]),
            *(with_interval(of[name], of["intervals"][name]) for name in names),
        )
        for kind, of in parts.items()
    ]
    title = "By its free answer to the question, Prompt II"
    return columns_table(title, rows, ("free answer", "n", *map(METRIC_NAMES.__getitem__, names)))


def scenarios_table(title: str, result: Mapping[str, Any]) -> Table:
    """Return the figures by scenario and by what the model knows, each over its interval."""
    names = ["yes_rate", "no_rate", "unsure_rate", "accuracy"]
    names += ["recall", "specificity", "negative_bias"]
    found = result["scenarios"]
    if "unsure" not in found:
        names.remove("unsure_rate")
    header = ["scenario", "n", *(METRIC_NAMES[name] for name in names)]
    table = columns_table(title, [], header, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for scenario, parts in found.items():
        rows = {scenario: parts["all"]}
        rows |= {f"  {kind}": metrics for kind, metrics in parts["by_knowledge"].items()}
        for label, metrics in rows.items():
            intervals = metrics["intervals"]
            cells = (
                f"{value_or_why(name, metrics[name])}\n{between(intervals[name])}" for name in names
            )
            table.add_row(label, str(metrics["n"]), *cells)
        table.add_section()
    return table


def data_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Return the form of Table 8, with the paper's counts beside ours."""
    names = ("positives", "negatives", "total")
    rows = []
    for summary in summaries:
        paper = summary["paper"] or {}
        cells = (f"{summary[one]}" + (f" ({paper[one]})" if paper else "") for one in names)
        rows.append((summary["dataset"], *cells))
    return columns_table("Yes/no examples, (paper)", rows, ("data", *names))


def sides_table(answers: Mapping[str, Mapping[str, Any]], words: tuple[str, str]) -> Table:
    """Return the answers to one question, a row a side."""
    table = Table("", "verdict", box=SIMPLE_HEAD, pad_edge=False)
    for name in (f"P({words[0]})", f"P({words[1]})", "model NAS"):
        table.add_column(name, justify="right")
    for side, answer in answers.items():
        figures = (number(answer[name]) for name in ("p_yes", "p_no", "nas"))
        table.add_row(side, _said(answer, words), *figures)
    return table


def free_table(answers: Mapping[str, Mapping[str, str]]) -> Table:
    """Return free answers, a column a side."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for side in answers:
        table.add_column(side, overflow="fold")
    table.add_row(*(answer["text"] or "(nothing)" for answer in answers.values()))
    return table


def answer_line(answers: Mapping[str, Mapping[str, Any]], words: tuple[str, str]) -> str:
    """Return what each model says, as ``untouched: No -> aligned: Yes``."""
    return " -> ".join(f"{side}: {_said(answer, words)}" for side, answer in answers.items())


def _said(answer: Mapping[str, Any], words: tuple[str, str]) -> str:
    said = {"positive": words[0], "negative": words[1], "unsure": "I don't know"}
    return said.get(answer["verdict"], "neither word")


def answer_tables(
    question: str, answers: Mapping[str, Mapping[str, Any]], words: tuple[str, str]
) -> Iterator[Table]:
    """Yield the table of answers to one question, and that of the heads that weigh most."""
    sides = list(answers)
    titles = {"p_yes": f"P({words[0]})", "p_no": f"P({words[1]})"}
    if any("p_yes_calibrated" in answer for answer in answers.values()):
        titles["p_yes_calibrated"] = f"P({words[0]}), calibrated"
    titles |= {name: METRIC_NAMES[name] for name in ("coverage", "nas")}
    rows = [
        [title, *(number(answers[side].get(name)) for side in sides)]
        for name, title in titles.items()
    ]
    rows.append(["answer", *(_said(answers[side], words) for side in sides)])
    yield columns_table(question, rows, ["", *sides])
    if not any(answers[side]["heads"] for side in sides):
        return

    heads = Table(title="Heads that weigh most, by NAS", title_justify="left")
    for side in sides:
        heads.add_column(side)
        heads.add_column("NAS", justify="right")
    for row in zip(*(answers[side]["heads"] for side in sides), strict=True):
        cells = ((f"layer {one['layer']}, head {one['head']}", number(one["nas"])) for one in row)
        heads.add_row(*chain.from_iterable(cells))
    yield heads


def calibration_note(
    calibration: Calibration | None, answers: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return what the calibrated probability rests on, or why there is none; empty without one."""
    if calibration is None:
        return ""
    if any("p_yes_calibrated" in answer for answer in answers.values()):
        return (
            f"The calibrated probability is fitted on {calibration.n} held-back examples of "
            f"{calibration.data}, half of them right; verdicts are not by it."
        )
    if calibration.before or calibration.after:
        return (
            "The adapter's calibration was fitted with another prompt, so no probability is "
            "calibrated."
        )
    return ""


def rounding_text(rounding: Rounding) -> str:
    """Return how much of the change is left after the rounding to another dtype."""
    return (
        f"Rounded to {rounding.dtype}, the change has {rounding.norm:.1%} of its norm "
        f"(cosine {rounding.cosine:.4f} with the exact one), and {rounding.entries:.1%} of the "
        "changed weights still differ from the base model's, rounded alike."
    ).replace("%", " %")


def reduction_text(reduction: Reduction) -> str:
    """Return how far an adapter of low rank is from the exact one."""
    return (
        f"Reduced to rank {reduction.rank}, the change lacks {reduction.error:.1%} of its norm "
        "(relative Frobenius error over all modules)."
    ).replace("%", " %")


def reduction_rows(reduction: Reduction) -> list[tuple[str, str, str]]:
    """Return each module, the number of its rows that change, and its relative error."""
    return [
        (module, str(len(reduction.rows[module])), f"{error:.4f}")
        for module, error in reduction.modules.items()
    ]


def copied_texts(copied: Copied) -> list[str]:
    """Return which files were copied beside a checkpoint and which were not, as sentences."""
    said = []
    if copied.names:
        said.append(f"Copied from beside the base model's weights: {', '.join(copied.names)}.")
    if copied.left_out:
        why = (f"{name} ({reason})" for name, reason in copied.left_out.items())
        said.append(f"Not copied from there: {', '.join(why)}.")
    return said
