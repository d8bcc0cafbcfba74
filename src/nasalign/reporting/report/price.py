"""What a correction costs: wrong answers accepted, the break-even, and a threshold beside it."""

from collections.abc import Iterator

import torch

from nasalign.evaluation.break_even import RightShares, break_even, by_threshold
from nasalign.evaluation.ranking import log_odds
from nasalign.reporting.formats import number, percent
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.run_folder import Row, RunFiles


def mistakes_taken(data: DataSet, files: RunFiles) -> str:
    """Return how many mistakes of the other kind the corrected model makes, and made before.

    These are wrong answers that it accepts; where a lean to Yes was corrected, right answers that
    it denies. An empty text without rows.
    """
    if len(data.rows) < 2:
        return ""
    (after, n), (before, _) = (_mistaken(data.rows[side], files) for side in ("after", "before"))
    return f"{_does(files)} {after:,} of {n:,} {_which(files)} answers ({before:,} before)"


def price_notes(data: DataSet, files: RunFiles) -> Iterator[str]:
    """Yield the share of Yes from which the correction pays, and what a plain threshold gives."""
    if len(data.rows) < 2:
        return
    shares = {side: _shares(rows) for side, rows in data.rows.items()}
    before, after = shares["before"], shares["after"]
    if before is None or after is None:
        return
    yield _break_even(before, after, files.words[0], data.positives)
    if files.threshold:
        yield _threshold(data, files, after)


def _break_even(before: RightShares, after: RightShares, yes: str, here: float | None) -> str:
    """For which shares of Yes the corrected model is the more accurate one."""
    found = break_even(before, after)
    if found.share is None:
        says = {
            "always": "more accurate than the untouched one at every share",
            "never": "less accurate than the untouched one at every share",
            "same": "as accurate as the untouched one at every share",
        }[found.where]
        return f"Break-even: none; the corrected model is {says} of {yes}, by these counts."
    tested = f" (here it is for {percent(here)})" if here is not None else ""
    return (
        f"Break-even: the corrected model is the more accurate one where {yes} is right for "
        f"{'more' if found.where == 'above' else 'less'} than {percent(found.share)} of the "
        f"questions{tested}; {'below' if found.where == 'above' else 'above'} that the untouched "
        "one is."
    )


def _threshold(data: DataSet, files: RunFiles, after: RightShares) -> str:
    """What the untouched model gives with a threshold on its log odds, and no tuning."""
    assert files.threshold
    rows, labels = data.rows["before"], [bool(row["label"]) for row in data.rows["before"]]
    probabilities = (torch.tensor([row[name] for row in rows]) for name in ("p_yes", "p_no"))
    verdicts = by_threshold(log_odds(*probabilities), float(files.threshold["value"]))
    shares = RightShares.of(verdicts, labels)
    assert shares
    assert data.positives is not None
    answered = [row | {"verdict": said} for row, said in zip(rows, verdicts, strict=True)]
    count, n = _mistaken(answered, files)
    side = ("recall", shares.yes) if not files.to_no else ("specificity", shares.no)
    accuracies = [number(one.accuracy(data.positives)) for one in (shares, after)]
    return (
        f"A plain threshold on the untouched model's log odds of {files.words[0]}, fitted on "
        f"{files.threshold['n']:,} held-back examples, gives on the same questions accuracy "
        f"{accuracies[0]} (the corrected model {accuracies[1]}) and {side[0]} "
        f"{number(side[1])}, and {_does(files)} {count:,} of {n:,} {_which(files)} answers; it "
        "needs the probabilities of the answer words wherever the model is used."
    )


def _shares(rows: list[Row]) -> RightShares | None:
    return RightShares.of([row["verdict"] for row in rows], [bool(row["label"]) for row in rows])


def _mistaken(rows: list[Row], files: RunFiles) -> tuple[int, int]:
    """How many mistakes of the kind that a correction adds, and of how many answers."""
    asked = [row for row in rows if bool(row["label"]) == files.to_no]
    said = "negative" if files.to_no else "positive"
    return sum(row["verdict"] == said for row in asked), len(asked)


def _does(files: RunFiles) -> str:
    return "denies" if files.to_no else "accepts"


def _which(files: RunFiles) -> str:
    return "right" if files.to_no else "wrong"


def price_metric(files: RunFiles) -> str:
    """Return the metric in which a correction has its price."""
    return "recall" if files.to_no else "specificity"


def gain_metric(files: RunFiles) -> str:
    """Return the metric that a correction is to raise."""
    return "specificity" if files.to_no else "recall"
