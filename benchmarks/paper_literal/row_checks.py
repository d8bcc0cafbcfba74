"""Tables and Figures 1, 2 and 5 from the rows of verdicts, probabilities and free answers."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paper_literal import statistics
from paper_literal.findings import Findings, Triple
from paper_literal.produced import AFTER, BEFORE, DOMAINS, FREE, Produced, Row
from paper_literal.prompts import upstream

EXACT = 1e-9
"""The product sums in float64 too."""
SIDES = {
    "baseline": [BEFORE],
    "NASA": [AFTER],
    "query projection only": ["query-only"],
    "random attention heads": ["random-0", "random-1", "random-2"],
}
WORDINGS = {
    "table-7": lambda row: "4-shot",
    "table-10": lambda row: row["vocabulary"].replace("/", "-"),
    "table-11": lambda row: row["instruction"],
}
METRICS = ("accuracy", "precision", "recall", "f1", "nas", "ece", "ece_two_words")
_TABLES = (3, 4, 6, 7, 10, 11, 19, 20)


def check(made: Produced, findings: Findings, data: Path) -> None:
    """Compares every table and figure that is made of rows."""
    for number in _TABLES:
        _metrics(f"table-{number}", made, findings)
    _metrics("figure-1", made, findings)
    _correlations(made, findings)
    _overlap(made, findings)
    _free_answers(made, findings, data)
    _counts(made, findings)
    _cells(16, "share", made, findings)
    _cells(17, "shift_ratio", made, findings)
    _cells(18, "shift_ratio", made, findings)
    for number in (2, 5):
        _histograms(number, made, findings)


def _metrics(name: str, made: Produced, findings: Findings) -> None:
    wording: Callable[[Row], str] = WORDINGS.get(name, lambda row: "plain")
    bins = int(made.settings.get("calibration_bins", 10))

    def triples() -> Iterator[Triple]:
        for row in made.table(name):
            forms = SIDES[row.get("method") or "baseline"]
            drawn = [made.rows(row["dataset"], form, wording(row)) for form in forms]
            figures = [statistics.metrics(rows, bins) for rows in drawn]
            for value in METRICS:
                if row.get(value):
                    mean = sum(one[value] for one in figures) / len(figures)
                    yield f"{row['dataset']} {row.get('method')} {value}", row[value], mean
            yield f"{row['dataset']} n", row["n"], figures[0]["n"]

    about = "metrics in the CSV against scikit-learn's, and ECE by its bins, of the verdicts"
    findings.close(_title(name), about, triples(), EXACT)


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _study(made: Produced, name: str) -> list[int]:
    """The places of the rows of a domain that the studies of Tables 1, 2 and 9 take."""
    settings, count = made.settings, len(made.rows(name))
    size = min(settings.get("study_questions", count), settings["evaluation_questions"])
    if count <= size:
        return list(range(count))
    return sorted(random.Random(settings["seed"]).sample(range(count), size))


def _domains(made: Produced) -> list[Row]:
    return [made.rows(name)[place] for name in DOMAINS for place in _study(made, name)]


def _correlations(made: Produced, findings: Findings) -> None:
    rows = _domains(made)
    wanted = statistics.correlations([row["nas"] for row in rows], [row["p_no"] for row in rows])
    (ours,) = made.table("table-1") or [{}]
    about = f"correlations against their formulas, n = {len(rows)}"
    triples = [(name, ours[name], value) for name, value in wanted.items() if ours]
    findings.close("Table 1", about, triples, 1e-6)
    (ours,) = made.table("table-9") or [{}]
    wanted = statistics.regression(rows, comparisons=1)
    about = f"regression against the normal equations, n = {len(rows)}"
    triples = [(name, ours[name], value) for name, value in wanted.items() if ours]
    findings.close("Table 9", about, triples, 1e-5, scale=True)


def _overlap(made: Produced, findings: Findings) -> None:
    if not all(made.nas(name) for name in DOMAINS):
        findings.missing("Table 2", "overlap of heads", "a data set has no NAS")
        return
    nas = {name: [made.nas(name)[place] for place in _study(made, name)] for name in DOMAINS}
    heads = len(nas[DOMAINS[0]][0]) * len(nas[DOMAINS[0]][0][0])
    k, n = study_counts(made.settings, heads)
    lists = [statistics.select(one, k, n, made.settings["consistency"]) for one in nas.values()]
    (ours,) = made.table("table-2") or [{}]
    about = f"overlap against Eq. 2-4 by sorting and counting, k = {k}, N = {n}"
    triples = [("overlap", ours["overlap"], statistics.overlap(lists))] if ours else []
    findings.close("Table 2", about, triples, EXACT)


def study_counts(settings: Row, heads: int) -> tuple[int, int]:
    """k and N of the studies: those of the settings, else the paper's in proportion to heads."""
    share = min(1.0, heads / 1024)
    return (
        settings.get("study_k") or max(1, round(200 * share)),
        settings.get("study_n") or max(1, round(100 * share)),
    )


def _free_answers(made: Produced, findings: Findings, data: Path) -> None:
    triples: list[Triple] = []
    for row in made.table("table-5"):
        (form,) = SIDES[row["method"]]
        free = made.free(row["dataset"], form)
        right = sum(one["right"] is True and one.get("contains", True) for one in free)
        triples.append((f"{row['dataset']} {form}", row["accuracy"], right / len(free)))
    findings.close("Table 5", "accuracy against the judged free answers", triples, EXACT)
    aliases = {row["id"]: row["answer_aliases"] for row in upstream(data, "musique")}
    held = [
        (
            one["question"],
            any(
                _plain(right) in _plain(one["prediction"])
                for right in (one["answer"], *aliases.get(one["id"], ()))
            ),
            True,
        )
        for name in ("musique", "gsm8k-rephrased")
        for one in made.free(name)
        if one["right"] and made.settings["judge"] == "match"
    ]
    if held:
        findings.same("Table 5", "answers judged right hold the label or an alias", held)


def _plain(text: str) -> str:
    return "".join(sign for sign in text.casefold() if sign.isalnum())


def _counts(made: Produced, findings: Findings) -> None:
    triples: list[Triple] = []
    for row in made.table("table-8"):
        labels = [bool(one["label"]) for one in made.rows(row["dataset"])]
        wanted = {"positives": sum(labels), "total": len(labels)}
        wanted["negatives"] = wanted["total"] - wanted["positives"]
        triples += [(f"{row['dataset']} {one}", int(row[one]), wanted[one]) for one in wanted]
    findings.same("Table 8", "counts against the labels of the evaluated rows", triples)


def _cells(number: int, value: str, made: Produced, findings: Findings) -> None:
    triples: list[Triple] = []
    ours: dict[tuple[str, ...], Any] = {
        (row["dataset"], row["response"], row["confidence"]): row[value]
        for row in made.table(f"table-{number}")
    }
    for name in FREE if ours else ():
        marked = statistics.with_knowledge(made.rows(name), made.free(name))
        if number == 16:
            wanted = statistics.composition(marked)
        else:
            which = "FN" if number == 17 else "TN"
            wanted = statistics.shifts(marked, made.rows(name, AFTER), which)
        triples += [(f"{name} {cell}", ours[name, *cell], wanted[cell]) for cell in wanted]
    about = "shares against counts of verdicts by free answer and median of the entropies"
    findings.close(f"Table {number}", about, triples, EXACT)


def _histograms(number: int, made: Produced, findings: Findings) -> None:
    triples: list[Triple] = []
    counted: dict[tuple[str, str, str], list[int]] = {}
    for row in made.table(f"figure-{number}"):
        key = row["dataset"], row["method"], row["kind"]
        if key not in counted:
            (form,) = SIDES[row["method"]]
            counted[key] = statistics.histogram(made.rows(row["dataset"], form), row["kind"])
        place = round(float(row["confidence"]) * 10) - 1
        triples.append((f"{key} bin {place}", int(row["answers"]), counted[key][place]))
    findings.same(f"Figure {number}", "bars against counts of the verdicts' confidences", triples)
