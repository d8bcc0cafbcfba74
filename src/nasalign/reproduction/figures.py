"""The paper's figures, drawn from the shared measurements in the style of the report."""

from collections.abc import Sequence

import altair as alt

from nasalign.evaluation.responses import KINDS, confidence_histogram
from nasalign.reporting.report.chart_style import (
    AFTER,
    BEFORE,
    FAINT,
    TO_NO,
    TO_YES,
    colour,
    styled,
    values,
)
from nasalign.reproduction.paper_sets import PAPER_SETS
from nasalign.reproduction.paper_tables import METHODS, notes_on
from nasalign.reproduction.published import paper_tables
from nasalign.reproduction.result import Result, Row
from nasalign.reproduction.study import NASA, UNTOUCHED, Studies, Study

PANELS = 4
"""Heads shown in Figures 6 and 7."""
BINS = 10
COLOURS = {"precision": BEFORE, "recall": AFTER}
KIND_COLOURS = {"TP": TO_YES, "FP": "#7FCDB8", "TN": TO_NO, "FN": "#DAA1CF"}
"""Green is Yes and purple is No, as in the report; wrong answers are the paler ones."""
TOKEN_WIDTH = 13


def figure_1(studies: Studies) -> Result:
    """Precision and recall of the untouched models."""
    rows: list[Row] = []
    for name in PAPER_SETS:
        for study in studies:
            found = study.metrics(name)
            row: Row = {"source": "ours", "dataset": name, "model": study.name}
            for value in COLOURS:
                low, high = found["intervals"][value]
                row |= {value: found[value], f"{value}_low": low, f"{value}_high": high}
            rows.append(row | {"n": found["n"]})
    for printed in (*paper_tables()[3].rows, *paper_tables()[4].rows):
        if printed["method"] == "baseline":
            shown = ("dataset", "model", *COLOURS)
            rows.append({"source": "paper"} | {key: printed[key] for key in shown})
    points = [
        {"data": row["dataset"], "model": row["model"], "metric": value, "value": row[value]}
        for row in rows
        for value in COLOURS
    ]
    chart = (
        alt.Chart(values(points))
        .mark_point(filled=True, size=70)
        .encode(
            alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
            alt.Y("data:N", title=None, sort=list(PAPER_SETS)),
            colour("metric", COLOURS),
        )
        .properties(width=170, height=110)
        .facet(alt.Facet("model:N", title=None, sort=[one.name for one in studies]), columns=3)
    )
    note = "The paper prints no figures here; its points are the baselines of Tables 3 and 4."
    return Result(
        "figure-1",
        "Precision and recall of untouched models",
        ("dataset", "model"),
        ("precision", "recall"),
        rows,
        [*notes_on(studies), note],
        {"figure-1": styled(chart)},
    )


def figure_2(studies: Studies) -> Result:
    """Confidence of answers to GSM8K and AR-LSAT."""
    sets = ("gsm8k-rephrased", "ar-lsat")
    return _histograms(2, "Confidence of answers", studies, sets, (UNTOUCHED,))


def figure_5(studies: Studies) -> Result:
    """Confidence of answers before and after."""
    title = "Confidence of answers, before and after"
    return _histograms(5, title, studies, PAPER_SETS, (UNTOUCHED, NASA))


def _histograms(
    number: int, title: str, studies: Studies, sets: Sequence[str], sides: Sequence[str]
) -> Result:
    rows: list[Row] = []
    charts = {}
    for study in studies:
        mine: list[Row] = []
        for name in sets:
            for side in sides:
                found = confidence_histogram(study.evaluation(name, side).rows(), BINS)
                mine += [
                    {"source": "ours", "model": study.name, "dataset": name}
                    | {"method": METHODS[side], "kind": kind}
                    | {"confidence": found.edges[place + 1], "answers": count}
                    for kind in KINDS
                    for place, count in enumerate(found.counts[kind])
                ]
        rows += mine
        charts[f"figure-{number}-{study.name}"] = _histogram_chart(mine, sets)
    note = "Confidence is the probability of the word that was given; bins of a tenth."
    keys = ("model", "dataset", "method", "kind", "confidence")
    notes = [*notes_on(studies), note]
    return Result(f"figure-{number}", title, keys, ("answers",), rows, notes, charts)


def _histogram_chart(rows: list[Row], sets: Sequence[str]) -> alt.TopLevelMixin:
    chart = (
        alt.Chart(values([row | {"from": row["confidence"] - 1 / BINS} for row in rows]))
        .mark_bar()
        .encode(
            alt.X("from:Q", bin="binned", title="confidence", scale=alt.Scale(domain=[0, 1])),
            alt.X2("confidence:Q"),
            alt.Y("answers:Q", title="answers", stack="zero"),
            colour("kind", KIND_COLOURS),
        )
        .properties(width=220, height=110)
        .facet(
            row=alt.Row("dataset:N", title=None, sort=list(sets)),
            column=alt.Column("method:N", title=None, sort=list(METHODS.values())),
        )
    )
    return styled(chart)


def figure_3(studies: Studies) -> Result:
    """One head on questions of three data sets."""
    sets = ("strategyqa", "gsm8k-rephrased", "math-rephrased")
    parts = [(study, name) for study in studies for name in sets]
    return _attention(3, "The head of highest NAS on three questions", parts, UNTOUCHED, heads=1)


def figure_6(studies: Studies) -> Result:
    """Heads of the untouched model on a question of GSM8K."""
    title = "Heads of the untouched model on a question of GSM8K"
    return _attention(6, title, [(study, "gsm8k-rephrased") for study in studies], UNTOUCHED)


def figure_7(studies: Studies) -> Result:
    """The same heads with NASA."""
    parts = [(study, "gsm8k-rephrased") for study in studies]
    return _attention(7, "The same heads with NASA", parts, NASA)


def _attention(
    number: int, title: str, parts: Sequence[tuple[Study, str]], side: str, heads: int = PANELS
) -> Result:
    """The attention of the first heads of each study on a question of a data set."""
    rows: list[Row] = []
    charts = {}
    for study, name in parts:
        chosen = [(head.layer, head.head) for head in study.heads()[:heads]]
        found = study.attention(name, side, chosen)
        mine = [
            {"source": "ours", "model": study.name, "dataset": name, "method": METHODS[side]}
            | {"head": f"layer {one['layer']}, head {one['head']}"}
            | {"place": place, "token": found["tokens"][place]}
            | {"word": word, "attention": one[word][place - found["first_row"]]}
            for one in found["heads"]
            for place in range(found["first_row"], len(found["tokens"]))
            for word in ("Yes", "No")
        ]
        rows += mine
        charts[f"figure-{number}-{study.name}-{name}"] = _attention_chart(mine)
    note = (
        "Attention of each token after the instruction to its words Yes and No; the shortest "
        "question is shown whose right answer is Yes."
    )
    keys = ("model", "dataset", "method", "head", "place", "token", "word")
    notes = [*notes_on([study for study, _ in parts]), note]
    return Result(f"figure-{number}", title, keys, ("attention",), rows, notes, charts)


def _attention_chart(rows: list[Row]) -> alt.TopLevelMixin:
    """A strip for each head and word; a column a token."""
    names = alt.Axis(title=None, labelAngle=-90, labelOverlap=False)
    # A token may stand twice in a question, so its label begins with its place.
    shown = [row | {"label": f"{row['place']} {row['token'].strip()}"} for row in rows]
    header = alt.Header(labelAngle=0, labelAlign="left", labelOrient="top")
    heads = list(dict.fromkeys(row["head"] for row in shown))
    chart = (
        alt.Chart(values(shown))
        .mark_rect()
        .encode(
            alt.X("label:N", sort=list(dict.fromkeys(row["label"] for row in shown)), axis=names),
            alt.Y("word:N", title=None, sort=["Yes", "No"]),
            alt.Color("attention:Q", scale=alt.Scale(domainMin=0, range=[FAINT, AFTER])),
        )
        .properties(width=alt.Step(TOKEN_WIDTH), height=36)
        .facet(row=alt.Row("head:N", title=None, sort=heads, header=header), spacing=6)
    )
    return styled(chart)
