"""The plain threshold that a correction is set beside: on the untouched model's log odds."""

from collections.abc import Sequence
from typing import Any

from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits
from nasalign.errors import DataError, PromptError
from nasalign.evaluation.examples import make_examples
from nasalign.inference.scoring import score_as
from nasalign.io.files import read_json, write_json
from nasalign.rivals.calibration import best_threshold
from nasalign.rivals.rival import odds_of
from nasalign.run import Run
from nasalign.session import Session

FILE = "threshold.json"
PAIRS = 100
LEAST_PAIRS = 10
"""Held-back questions, each with a right and a wrong answer: at most, and where little is asked."""


def threshold_pairs(settings: Settings) -> int:
    """Return how many questions the threshold is fitted on; fewer where less is evaluated."""
    return max(LEAST_PAIRS, min(PAIRS, settings.evaluation_questions // 3))


def fit_threshold(session: Session, splits: Splits, shots: Sequence[BinaryExample]) -> None:
    """Fit the threshold of best balanced accuracy; write ``threshold.json``.

    It is fitted on the development split of the probed data, which is neither tuned on nor
    evaluated; where there is none, on what is probed. Nothing is written where no examples of both
    labels are to be had.

    Args:
        session: with the untouched model.
        splits: the data of the run.
        shots: few-shot examples, as the evaluation shows them.
    """
    if session.run.folder is None:
        return

    def make() -> dict[str, Any]:
        examples = _held_back(session, splits, shots)
        if len({example.label for example in examples}) < 2:
            return {}
        own = session.settings.replace({"decoder": "logits"})
        title = "Fitting a plain threshold"
        asking = session.run.stage("threshold", title, len(examples))
        with session.untouched(), asking as done:
            scores = score_as(
                session.model,
                session.tokenizer,
                examples,
                own,
                shots,
                record=False,
                progress=done,
            )
        value = best_threshold(odds_of(scores), examples)
        return {"kind": "log odds", "value": value, "n": len(examples)}

    session.run.cached(FILE, make, write_json, read_json)


def _held_back(
    session: Session, splits: Splits, shots: Sequence[BinaryExample]
) -> list[BinaryExample]:
    """Right and wrong answers to held-back questions, or labelled rows; wrong ones by rules."""
    count = threshold_pairs(session.settings)
    size = {"evaluation_questions": 2 * count if splits.labelled else count, "sides": "both"}
    quiet = session.with_run(Run()).with_settings(generator="rules", evaluation_sizes={}, **size)
    rest = splits.of_development or splits.probing
    try:
        name = splits.probing_name
        return make_examples(quiet, name, rest, splits.probing_pool, shots)[1].examples
    except (DataError, PromptError):  # no question is left, or no prompt fits
        return []
