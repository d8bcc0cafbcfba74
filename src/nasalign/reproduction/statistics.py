"""The paper's statistics: what NAS says of the bias, and what became of negative answers."""

from collections.abc import Callable
from typing import Literal

from nasalign.evaluation.analysis import correlation, head_overlap, regression
from nasalign.evaluation.responses import Cells, composition, shift_ratios
from nasalign.nas.heads import STUDY, head_counts, places, select_heads
from nasalign.reproduction.forms import NASA
from nasalign.reproduction.paper_sets import DOMAINS, SHORT_ANSWERS
from nasalign.reproduction.paper_tables import WILSON, about_cut, cut_share, notes_on
from nasalign.reproduction.published import paper_tables
from nasalign.reproduction.result import Result, Row, beside_paper
from nasalign.reproduction.study import Studies, Study


def table_1(studies: Studies) -> Result:
    """Correlation of model NAS and negative confidence."""
    rows = []
    for study in studies:
        found = correlation(*_confidences(study)[:2])
        row: Row = {"model": study.name}
        for name in ("pearson", "spearman"):
            low, high = getattr(found, f"{name}_interval")
            row |= {name: getattr(found, name), f"{name}_low": low, f"{name}_high": high}
            row[f"{name}_p"] = getattr(found, f"{name}_p")
        rows.append(row | {"n": found.n})
    how = "by Fisher's z; for Spearman with the error of Bonett and Wright"
    return beside_paper(1, rows, notes_on(studies, DOMAINS, how))


def table_2(studies: Studies) -> Result:
    """Negative heads that the domains share."""
    rows, notes = [], []
    for study in studies:
        nas = {name: study.nas(name)[study.study_sample(name)] for name in DOMAINS}
        settings = study.settings
        all_heads = len(places(nas[DOMAINS[0]]))
        counts = head_counts(STUDY, settings.study_k, settings.study_n, all_heads)
        heads = {}
        for name, of in nas.items():
            chosen = select_heads(of, k=counts.k, n=counts.n, consistency=settings.consistency)
            heads[name] = [(head.layer, head.head) for head in chosen]
        found = head_overlap(heads)
        rows.append(
            {"model": study.name, "overlap": found.common, "n": sum(map(len, nas.values()))}
            | {f"{pair.first}, {pair.second}": pair.share for pair in found.pairs}
        )
        asked = ", ".join(f"{len(of)} of {name}" for name, of in nas.items())
        sizes = ", ".join(f"{size} of {name}" for name, size in found.sizes.items())
        notes.append(
            f"{study.name}: samples: {asked}; k = {counts.k}, N = {counts.n}; negative heads: "
            f"{sizes}; {found.shared} are common to all."
        )
    return beside_paper(
        2, rows, [*notes_on(studies, DOMAINS), "Overlap: of the shortest list.", *notes]
    )


def table_9(studies: Studies) -> Result:
    """Multiple regression of model NAS on both confidences."""
    rows = []
    for study in studies:
        found = regression(*_confidences(study), comparisons=len(studies))
        low, high = found.interval
        row = {"coefficient": found.coefficient, "coefficient_low": low, "coefficient_high": high}
        row |= {"p_value": found.p, "r_squared": found.r_squared, "n": found.n}
        rows.append({"model": study.name} | row)
    corrected = f"p is corrected for {len(studies)} models by Bonferroni."
    if len(studies) == 1:
        corrected = "There is one model, so p is not corrected for multiple comparisons."
    how = notes_on(studies, DOMAINS, "by the t distribution")
    return beside_paper(9, rows, [*how, corrected, _below_the_correlation()])


def _below_the_correlation() -> str:
    """What is to be known of the paper's r squared beside its Table 1."""
    pearson = {row["model"]: float(row["pearson"] or 0) for row in paper_tables()[1].rows}
    squares = [
        (row["model"], float(row["r_squared"] or 0), pearson[row["model"]] ** 2)
        for row in paper_tables()[9].rows
    ]
    below = [f"{name} ({r2:.3f} < {of:.3f})" for name, r2, of in squares if r2 < of]
    return (
        "A regression on two predictors has at least the r squared of one of them alone, which is "
        "the square of Pearson's coefficient on the same samples. The paper's is below that of its "
        f"Table 1 for {', '.join(below)}, so the two tables are not of the same samples, or its r "
        "squared is something else. Ours are of the same samples."
    )


def table_16(studies: Studies) -> Result:
    """What the model knows of the questions it wrongly denies."""
    return _cells(16, studies, "share", lambda study, name: composition(study.rows(name)))


def table_17(studies: Studies) -> Result:
    """False negatives that became true positives."""
    return _cells(17, studies, "shift_ratio", lambda study, name: _shifts(study, name, "FN"))


def table_18(studies: Studies) -> Result:
    """True negatives that became false positives."""
    return _cells(18, studies, "shift_ratio", lambda study, name: _shifts(study, name, "TN"))


def _shifts(study: Study, name: str, kind: Literal["FN", "TN"]) -> Cells:
    return shift_ratios(study.rows(name), study.rows(name, NASA), kind)


def _cells(
    number: int, studies: Studies, value: str, cells_of: Callable[[Study, str], Cells]
) -> Result:
    """A row for each data set, model, free answer and confidence, with Wilson intervals."""
    rows, notes = [], []
    for name in SHORT_ANSWERS:
        for study in studies:
            found, cut = cells_of(study, name), cut_share(study.knowledge(name))
            for cell in found.cells:
                low, high = cell.interval or (None, None)
                rows.append(
                    {"dataset": name, "model": study.name, "response": cell.response}
                    | {"confidence": cell.confidence, value: cell.share}
                    | {f"{value}_low": low, f"{value}_high": high, "n": cell.total, "cut": cut}
                )
            notes.append(f"{study.name}, {name}: {cut:.0%} of the free answers are cut.")
            if found.unclear:
                notes.append(f"{study.name}, {name}: {found.unclear} answers were not decided on.")
    judges = sorted({study.settings.judge for study in studies})
    notes.append(
        f"Free answers judged by {', '.join(judges)}; High: the entropy of the first token is at "
        "most the median."
    )
    every = [*notes_on(studies, SHORT_ANSWERS, WILSON), *notes, about_cut(studies)]
    return beside_paper(number, rows, every)


def _confidences(study: Study) -> tuple[list[float], list[float], list[float]]:
    """Model NAS, negative and positive confidence of the samples of the three domains."""
    rows = []
    for name in DOMAINS:
        evaluated = study.evaluation(name).rows()
        rows += [evaluated[index] for index in study.study_sample(name)]
    nas, no, yes = ([row[name] for row in rows] for name in ("nas", "p_no", "p_yes"))
    return nas, no, yes
