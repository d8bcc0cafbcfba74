"""Held-back questions: asked to fit a threshold and a calibration, neither tuned on nor evaluated.

They are of the development split of the probed data: the probing split is tuned on and the test
split is evaluated. V and the balance set are not taken, since tuning halts by them: a model looks
better calibrated on them than it is.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from nasalign.adapters.scaling import Calibration, PlattScaling, prompt_facts
from nasalign.config import Settings
from nasalign.data.binary import sample
from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits, unseen
from nasalign.errors import DataError, PromptError
from nasalign.evaluation.examples import make_examples
from nasalign.evaluation.platt import fit_platt
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.scoring import score_as
from nasalign.io.files import check_rows, read_jsonl, write_jsonl
from nasalign.run import Run
from nasalign.session import Session

PAIRS = 100
LEAST_PAIRS = 10
"""Held-back questions, each with a right and a wrong answer: at most, and where little is asked."""


def held_back_pairs(settings: Settings) -> int:
    """Return how many questions are held back; fewer where less is evaluated."""
    return max(LEAST_PAIRS, min(PAIRS, settings.evaluation_questions // 4))


def held_back_examples(
    session: Session,
    splits: Splits,
    sets: Mapping[str, Sequence[BinaryExample]],
    shots: Sequence[BinaryExample],
) -> list[BinaryExample]:
    """Return right and wrong answers in equal number; wrong ones are by rules.

    Args:
        session: the model and the settings.
        splits: the data of the run.
        sets: the evaluated examples by data set; no question of theirs is among the held-back ones.
        shots: few-shot examples, which show their answers; nor are they.

    Returns:
        The examples; none where no question is left, or no prompt fits.
    """
    settings = session.settings
    count = held_back_pairs(settings)
    size = {"evaluation_questions": 2 * count if splits.labelled else count, "sides": "both"}
    quiet = session.with_run(Run()).with_settings(generator="rules", evaluation_sizes={}, **size)
    seen = [*shots, *splits.used, *(one for examples in sets.values() for one in examples)]
    name = splits.probing_name
    try:
        rest, _ = unseen(name, splits.of_development, seen)
        found = make_examples(quiet, name, rest, splits.probing_pool, shots)[1].examples
    except (DataError, PromptError):  # no question is left, or no prompt fits
        return []
    sides = [[one for one in found if one.known_label is label] for label in (True, False)]
    least = min(map(len, sides))
    return [one for side in sides for one in sample(side, least, settings.seed)]


def held_back_odds(
    session: Session,
    examples: Sequence[BinaryExample],
    shots: Sequence[BinaryExample],
    side: str,
) -> Tensor:
    """Return log odds of held-back examples, [N] float64; write ``held_back.SIDE.jsonl``.

    Args:
        session: the model as it is now.
        examples: N of them.
        shots: few-shot examples, as the evaluation shows them.
        side: ``before`` or ``after``.
    """

    def make() -> Tensor:
        own = session.settings.replace({"decoder": "logits"})
        untouched = session.untouched() if side == "before" else nullcontext()
        title = f"Asking held-back questions, {side}"
        stage = session.run.stage(f"held back/{side}", title, len(examples))
        with untouched, stage as done:
            scores = score_as(
                session.model,
                session.tokenizer,
                examples,
                own,
                shots,
                record=False,
                progress=done,
            )
        return torch.from_numpy(log_odds(scores.p_positive, scores.p_negative))

    if not examples:
        return torch.zeros(0, dtype=torch.float64)
    asked = [
        {"question": one.question, "answer": one.answer, "label": one.label} for one in examples
    ]
    name = f"held_back.{side}.jsonl"

    def load(rows: list[dict[str, Any]]) -> Tensor:
        check_rows(rows, asked, name)
        return torch.tensor([row["log_odds"] for row in rows], dtype=torch.float64)

    return session.run.cached(
        name,
        make,
        dump=lambda path, odds: write_jsonl(
            path,
            [row | {"log_odds": value} for row, value in zip(asked, odds.tolist(), strict=True)],
        ),
        load=lambda path: load(read_jsonl(path)),
    )


def fit_calibration(
    session: Session,
    examples: Sequence[BinaryExample],
    before: Tensor,
    after: Tensor,
    data: str,
) -> Calibration | None:
    """Fit slope and offset of both models; say so where one has none.

    Args:
        session: the settings of the prompt, and the run in which it is said.
        examples: N held-back examples.
        before: log odds of the untouched model, [N].
        after: the same of the aligned model.
        data: name of the data set of the examples.

    Returns:
        The calibration; None where there are too few examples.
    """
    if len(examples) < 2 * LEAST_PAIRS:
        session.run.say(
            f"{data} holds back {len(examples)} questions and answers; a calibration takes at "
            f"least {2 * LEAST_PAIRS}, so there is none."
        )
        return None
    labels = [one.known_label for one in examples]
    fits = {
        "untouched": _fit(session, before, labels, "untouched"),
        "aligned": _fit(session, after, labels, "aligned"),
    }
    prompt = prompt_facts(session.settings, session.settings.shots)
    return Calibration(fits["untouched"], fits["aligned"], len(examples), data, prompt)


def _fit(session: Session, odds: Tensor, labels: list[bool], which: str) -> PlattScaling | None:
    """Slope and offset of one model, or None where they would turn every verdict round."""
    if not odds.isfinite().all():  # the evaluation says what is wrong
        return None
    fitted = fit_platt(odds, labels)
    if fitted.slope > 0:
        return fitted
    session.run.say(
        f"There is no calibration of the {which} model: on held-back questions its log odds do not "
        "rank right answers above wrong ones."
    )
    return None
