"""The paper's figures, drawn from the shared measurements."""

from collections.abc import Callable, Sequence

import altair

from nasalign.evaluation.responses import KINDS, confidence_histogram
from nasalign.reproduction.paper import paper_table
from nasalign.reproduction.paper_sets import PAPER_SETS
from nasalign.reproduction.paper_tables import METHODS, notes_on
from nasalign.reproduction.result import Result, Row
from nasalign.reproduction.study import NASA, UNTOUCHED, Studies, Study

PANELS = 4
"""Heads shown in Figures 6 and 7."""
BINS = 10
COLOURS = {"precision": "#4c78a8", "recall": "#f58518"}
KIND_COLOURS = {"TP": "#4c78a8", "FP": "#9ecae9", "TN": "#f58518", "FN": "#ffbf79"}
TOKEN_WIDTH = 11
ATTENTION = ["#fff8f0", "#c2410c"]


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
    printed = [*paper_table(3).records(), *paper_table(4).records()]
    for one in printed:
        if one["method"] == "baseline":
            kept = {key: one[key] for key in ("dataset", "model", "precision", "recall")}
            rows.append({"source": "paper"} | kept)
    long = [
        {"data": row["dataset"], "model": row["model"], "metric": value, "value": row[value]}
        for row in rows
        for value in COLOURS
    ]
    chart = (
        altair.Chart(altair.Data(values=long))
        .mark_point(filled=True, size=70)
        .encode(
            altair.X("value:Q", title=None, scale=altair.Scale(domain=[0, 1])),
            altair.Y("data:N", title=None, sort=list(PAPER_SETS)),
            altair.Color("metric:N", title=None, scale=_scale(COLOURS)),
            _tips("model:N", "data:N", "metric:N", "value:Q"),
        )
        .properties(width=170, height=110)
        .facet(
            altair.Facet("model:N", title=None, sort=[study.name for study in studies]), columns=3
        )
    )
    notes = ["The paper prints no figures here; its points are the baselines of Tables 3 and 4."]
    return Result(
        "figure-1",
        "Precision and recall of untouched models",
        ("dataset", "model"),
        ("precision", "recall"),
        rows,
        [*notes_on(studies), *notes],
        {"figure-1": chart},
    )


def figure_2(studies: Studies) -> Result:
    """Confidence of answers to GSM8K and AR-LSAT."""
    return _histograms(2, studies, ("gsm8k-rephrased", "ar-lsat"), (UNTOUCHED,))


def figure_5(studies: Studies) -> Result:
    """Confidence of answers before and after."""
    return _histograms(5, studies, PAPER_SETS, (UNTOUCHED, NASA))


def _histograms(number: int, studies: Studies, sets: Sequence[str], sides: Sequence[str]) -> Result:
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
    notes = ["Confidence is the probability of the word that was given; bins of a tenth."]
    return Result(
        f"figure-{number}",
        "Confidence of answers" + (", before and after" if len(sides) > 1 else ""),
        ("model", "dataset", "method", "kind", "confidence"),
        ("answers",),
        rows,
        [*notes_on(studies), *notes],
        charts,
    )


def _histogram_chart(rows: list[Row], sets: Sequence[str]) -> altair.TopLevelMixin:
    shown = [row | {"from": row["confidence"] - 1 / BINS} for row in rows]
    chart = (
        altair.Chart(altair.Data(values=shown))
        .mark_bar()
        .encode(
            altair.X("from:Q", bin="binned", title="confidence", scale=altair.Scale(domain=[0, 1])),
            altair.X2("confidence:Q"),
            altair.Y("answers:Q", title="answers", stack="zero"),
            altair.Color("kind:N", title=None, scale=_scale(KIND_COLOURS)),
            _tips("kind:N", "confidence:Q", "answers:Q"),
        )
        .properties(width=220, height=110)
    )
    return chart.facet(
        row=altair.Row("dataset:N", title=None, sort=list(sets)),
        column=altair.Column("method:N", title=None, sort=list(METHODS.values())),
    )


def figure_3(studies: Studies) -> Result:
    """One head on questions of three data sets."""
    parts = [
        (study, name, UNTOUCHED, study.heads()[:1])
        for study in studies
        for name in ("strategyqa", "gsm8k-rephrased", "math-rephrased")
    ]
    return _attention(3, "The head of highest NAS on three questions", studies, parts)


def figure_6(studies: Studies) -> Result:
    """Heads of the untouched model on a question of GSM8K."""
    parts = [(study, "gsm8k-rephrased", UNTOUCHED, study.heads()[:PANELS]) for study in studies]
    return _attention(6, "Heads of the untouched model on a question of GSM8K", studies, parts)


def figure_7(studies: Studies) -> Result:
    """The same heads with NASA."""
    return _attention(7, "The same heads with NASA", studies, _panels(studies, NASA))


def _panels(studies: Studies, side: str) -> list[tuple[Study, str, str, Sequence[tuple]]]:
    return [(study, "gsm8k-rephrased", side, study.heads()[:PANELS]) for study in studies]


def _attention(
    number: int,
    title: str,
    studies: Studies,
    parts: Sequence[tuple[Study, str, str, Sequence[tuple]]],
) -> Result:
    rows: list[Row] = []
    charts = {}
    for study, name, side, heads in parts:
        found = study.attention(name, side, [(head[0], head[1]) for head in heads])
        for one in found["heads"]:
            panel = f"layer {one['layer']}, head {one['head']}"
            rows += [
                {"source": "ours", "model": study.name, "dataset": name, "method": METHODS[side]}
                | {"head": panel, "place": place, "token": found["tokens"][place]}
                | {"word": word, "attention": one[word][place - found["first_row"]]}
                for place in range(found["first_row"], len(found["tokens"]))
                for word in ("Yes", "No")
            ]
        mine = [row for row in rows if row["model"] == study.name and row["dataset"] == name]
        charts[f"figure-{number}-{study.name}-{name}"] = _attention_chart(mine)
    return Result(
        f"figure-{number}",
        title,
        ("model", "dataset", "method", "head", "place", "token", "word"),
        ("attention",),
        rows,
        [
            *notes_on(studies),
            "Attention of each token after the instruction to its words Yes and No; the shortest "
            "question is shown whose right answer is Yes.",
        ],
        charts,
    )


def _attention_chart(rows: list[Row]) -> altair.TopLevelMixin:
    """A strip for each head and word; a column a token."""
    names = altair.Axis(title=None, labelAngle=-90, labelOverlap=False)
    shown = [row | {"label": f"{row['place']} {row['token'].strip()}"} for row in rows]
    order = list(dict.fromkeys(row["label"] for row in shown))
    heads = list(dict.fromkeys(row["head"] for row in shown))
    return (
        altair.Chart(altair.Data(values=shown))
        .mark_rect()
        .encode(
            altair.X("label:N", sort=order, axis=names),
            altair.Y("word:N", title=None, sort=["Yes", "No"]),
            altair.Color("attention:Q", scale=altair.Scale(domainMin=0, range=ATTENTION)),
            _tips("token:N", "word:N", "attention:Q"),
        )
        .properties(width=altair.Step(TOKEN_WIDTH), height=36)
        .facet(
            row=altair.Row(
                "head:N",
                title=None,
                sort=heads,
                header=altair.Header(labelAngle=0, labelAlign="left", labelOrient="top"),
            ),
            spacing=6,
        )
    )


def _tips(*names: str) -> list[altair.Tooltip]:
    return [
        altair.Tooltip(name, format=".4") if name.endswith(":Q") else altair.Tooltip(name)
        for name in names
    ]


def _scale(colours: dict[str, str]) -> altair.Scale:
    return altair.Scale(domain=list(colours), range=list(colours.values()))


FIGURES: dict[str, Callable[[Studies], Result]] = {
    "figure-1": figure_1,
    "figure-2": figure_2,
    "figure-3": figure_3,
    "figure-5": figure_5,
    "figure-6": figure_6,
    "figure-7": figure_7,
}
