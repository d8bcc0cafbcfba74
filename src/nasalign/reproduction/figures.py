"""The paper's figures, drawn from the shared measurements in the style of the report."""

from collections.abc import Sequence

import altair as alt

from nasalign.evaluation.responses import KINDS, confidence_histogram
from nasalign.reporting.report.chart_style import (
    AFTER,
    BEFORE,
    FAINT,
    PAGE,
    TO_NO,
    TO_YES,
    colour,
    styled,
    unit,
    values,
)
from nasalign.reproduction.forms import NASA, UNTOUCHED
from nasalign.reproduction.paper_sets import PAPER_SETS
from nasalign.reproduction.paper_tables import BOOTSTRAP, BOTH, METHODS, notes_on
from nasalign.reproduction.published import paper_tables
from nasalign.reproduction.result import Result, Row
from nasalign.reproduction.study import Studies, Study

PANELS = 4
"""Heads shown in Figures 6 and 7."""
BINS = 10
COLOURS = {"precision": BEFORE, "recall": AFTER}
PAPER_MODELS = {
    "LLaMA": "Llama-3-8B-Instruct",
    "Mistral": "Mistral-7B-Instruct-v0.3",
    "Gemma": "Gemma-1.1-7b-it",
    "Qwen": "Qwen2-7B-Instruct",
}
"""The paper's models by their names in its tables."""
BAR = 9
HEADER = alt.Header(title=None, labelFontSize=13)
KIND_COLOURS = {"TP": TO_YES, "FP": "#7FCDB8", "TN": TO_NO, "FN": "#DAA1CF"}
"""Green is Yes and purple is No, as in the report; wrong answers are the paler ones."""
TOKEN_WIDTH = 13


def figure_1(studies: Studies) -> Result:
    """Precision and recall of the untouched models, and of one behind an endpoint."""
    rows = [
        _row_of(name, study.name, study.metrics(name)) for name in PAPER_SETS for study in studies
    ]
    notes = notes_on(studies, PAPER_SETS, BOOTSTRAP)
    who = studies[0].settings.endpoint_model
    if who:
        more, note = _endpoint_rows(studies[0], who)
        rows, notes = [*rows, *more], [*notes, note]
    for printed in (*paper_tables()[3].rows, *paper_tables()[4].rows):
        if printed["method"] == "baseline":
            row = {"source": "paper"} | {key: printed[key] for key in ("dataset", *COLOURS)}
            rows.append(row | {"model": f"{PAPER_MODELS[str(printed['model'])]} (paper)"})
    without = [f"{row['model']} on {row['dataset']}" for row in rows if not row["recall"]]
    if without:
        notes.append(f"Without a bar, since it says Yes to no right answer: {', '.join(without)}.")
    notes.append(
        "The paper prints no figures here: its bars are the baselines of Tables 3 and 4, and those "
        "of GPT-4 cannot be read off its picture."
    )
    title, keys = "Precision and recall of untouched models", ("dataset", "model")
    charts = {"figure-1": _precision_and_recall(rows)}
    return Result("figure-1", title, keys, tuple(COLOURS), rows, notes, charts)


def _endpoint_rows(study: Study, who: str) -> tuple[list[Row], str]:
    """The rows of a model behind an endpoint, and a note; it is asked the examples of a study."""
    rows, neither, name = [], 0, who.removeprefix("openai:")
    for data in PAPER_SETS:
        found = study.endpoint_evaluation(data, who)
        neither += found.scores.verdicts.count("invalid")
        metrics = found.metrics(study.settings.bootstrap_samples, study.settings.seed)
        rows.append(_row_of(data, name, metrics))
    note = (
        f"{name} is asked Prompt I as a message, with the examples of {study.name}; its verdict is "
        f"read off its text, and {neither} of {sum(row['n'] for row in rows)} answers have none."
    )
    return rows, note


def _row_of(data: str, model: str, metrics: Row) -> Row:
    """Return a row of Figure 1: precision and recall of a model on a data set."""
    row: Row = {"source": "ours", "dataset": data, "model": model}
    for value in ("precision", "recall"):
        low, high = metrics["intervals"][value]
        row |= {value: metrics[value], f"{value}_low": low, f"{value}_high": high}
    return row | {"n": metrics["n"], "invalid_rate": metrics["invalid_rate"]}


def _precision_and_recall(rows: list[Row]) -> alt.TopLevelMixin:
    """Two bars a model, with intervals; a panel a data set. The paper's bars are paler."""
    bars = [
        {"data": row["dataset"], "model": row["model"], "metric": value, "value": row[value]}
        | {"low": row.get(f"{value}_low"), "high": row.get(f"{value}_high")}
        | {"source": row["source"]}
        for row in rows
        for value in COLOURS
    ]
    models = list(dict.fromkeys(row["model"] for row in rows))
    base = alt.Chart().encode(
        alt.Y("model:N", title=None, sort=models, axis=alt.Axis(labelLimit=300)),
        alt.YOffset("metric:N", sort=list(COLOURS)),
    )
    paler = alt.Opacity(
        "source:N", scale=alt.Scale(domain=["ours", "paper"], range=[1, 0.45]), legend=None
    )
    drawn = base.mark_bar().encode(unit("value:Q"), colour("metric", COLOURS), paler)
    intervals = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(color=PAGE)
        .encode(alt.X("low:Q"), alt.X2("high:Q"))
    )
    chart = (
        alt.layer(drawn, intervals, data=values(bars))
        .properties(width=230, height=alt.Step(BAR))
        .facet(alt.Facet("data:N", sort=list(PAPER_SETS), header=HEADER), columns=2)
    )
    return styled(chart)


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
    notes = [*notes_on(studies, sets), note]
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
    rows: list[Row] = []
    charts = {}
    for study in studies:
        first = [(head.layer, head.head) for head in study.forms.heads()[:1]]
        for name in ("strategyqa", "gsm8k-rephrased", "math-rephrased"):
            mine = _attention(study, name, UNTOUCHED, first)
            rows += mine
            highest = max(row["attention"] for row in mine)
            charts[f"figure-3-{study.name}-{name}"] = _attention_chart(mine, highest)
    title = "The head of highest NAS on three questions"
    return _attention_result(3, title, studies, rows, charts)


def figure_6(studies: Studies) -> Result:
    """Heads of the untouched model on a question of GSM8K."""
    return _kept_heads(6, "Kept heads, in the untouched model, on a question of GSM8K", studies)


def figure_7(studies: Studies) -> Result:
    """The same heads with NASA."""
    return _kept_heads(7, "The same heads with NASA", studies)


def _kept_heads(number: int, title: str, studies: Studies) -> Result:
    """The first of the heads whose update was kept, with the colours of both figures."""
    name, rows, charts, notes = "gsm8k-rephrased", [], {}, []
    for study in studies:
        chosen = [(layer, head) for layer, head in study.forms.tuning(NASA)["kept"][:PANELS]]
        if not chosen:
            notes.append(f"{study.name}: no head was kept, so none is shown.")
            continue
        sides = {side: _attention(study, name, side, chosen) for side in BOTH}
        highest = max(row["attention"] for side in sides.values() for row in side)
        mine = sides[UNTOUCHED if number == 6 else NASA]
        rows += mine
        charts[f"figure-{number}-{study.name}-{name}"] = _attention_chart(mine, highest)
    notes.append("Heads by falling single head NAS; Figures 6 and 7 have one scale of colours.")
    return _attention_result(number, title, studies, rows, charts, notes)


def _attention(study: Study, name: str, side: str, heads: Sequence[tuple[int, int]]) -> list[Row]:
    """Rows of the attention of some heads of a study to the words, on a question of a data set."""
    found = study.attention(name, side, heads)
    return [
        {"source": "ours", "model": study.name, "dataset": name, "method": METHODS[side]}
        | {"head": f"layer {one['layer']}, head {one['head']}"}
        | {"place": place, "token": found["tokens"][place]}
        | {"word": word, "attention": one[word][place - found["first_row"]]}
        for one in found["heads"]
        for place in range(found["first_row"], len(found["tokens"]))
        for word in ("Yes", "No")
    ]


def _attention_result(
    number: int,
    title: str,
    studies: Studies,
    rows: list[Row],
    charts: dict[str, alt.TopLevelMixin],
    notes: Sequence[str] = (),
) -> Result:
    what = (
        "Attention of each token after the instruction to its words Yes and No; the shortest "
        "question is shown whose right answer is Yes."
    )
    keys = ("model", "dataset", "method", "head", "place", "token", "word")
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    every = [*notes_on(studies, sets), what, *notes]
    return Result(f"figure-{number}", title, keys, ("attention",), rows, every, charts)


def _attention_chart(rows: list[Row], highest: float) -> alt.TopLevelMixin:
    """A strip for each head and word; a column a token; the colours end at ``highest``."""
    names = alt.Axis(title=None, labelAngle=-90, labelOverlap=False)
    # A token may stand twice in a question, so its label begins with its place.
    shown = [row | {"label": f"{row['place']} {row['token'].strip()}"} for row in rows]
    header = alt.Header(labelAngle=0, labelAlign="left", labelOrient="top")
    heads = list(dict.fromkeys(row["head"] for row in shown))
    scale = alt.Scale(domain=[0, highest], range=[FAINT, AFTER])
    chart = (
        alt.Chart(values(shown))
        .mark_rect()
        .encode(
            alt.X("label:N", sort=list(dict.fromkeys(row["label"] for row in shown)), axis=names),
            alt.Y("word:N", title=None, sort=["Yes", "No"]),
            alt.Color("attention:Q", scale=scale),
        )
        .properties(width=alt.Step(TOKEN_WIDTH), height=36)
        .facet(row=alt.Row("head:N", title=None, sort=heads, header=header), spacing=6)
    )
    return styled(chart)
