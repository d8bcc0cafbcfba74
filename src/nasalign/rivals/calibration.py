"""Rivals that shift the log odds of the answer words by an offset, and so need probabilities.

All probabilities of this file are of the positive word against the negative one, normalised over
the two, as the calibration papers do with the labels of a task. To divide them by an estimate of
what the model says without a question, and to normalise again, is to shift the log odds by minus
those of the estimate.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.inference.verdicts import compare
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of

CONTENT_FREE = ("N/A", "", "[MASK]")
"""What Zhao et al. put in the place of an input."""
DRAWS = 20
"""Random texts of Fei et al."""

Form = tuple[bool, bool, bool]
"""Whether an example has an answer to verify, whether it has a context, whether it is negated."""


def shifted(evaluation: Evaluation, offset: Tensor | float) -> Evaluation:
    """Returns an evaluation whose log odds are shifted.

    Args:
        evaluation: of N examples; its NAS and what else it holds are kept.
        offset: what is added to the log odds, one number or [N].

    Returns:
        With probabilities normalised over the two words, and the verdicts by comparing them.
    """
    odds = odds_of(evaluation.scores) + offset
    positive, negative = odds.sigmoid(), (-odds).sigmoid()
    verdicts = [compare(*both) for both in zip(positive.tolist(), negative.tolist(), strict=True)]
    scores = replace(
        evaluation.scores,
        p_positive=positive.float(),
        p_negative=negative.float(),
        verdicts=verdicts,
    )
    return replace(evaluation, scores=scores)


def best_threshold(odds: Tensor, examples: Sequence[BinaryExample]) -> float:
    """Returns the threshold of log odds [N] with the best balanced accuracy.

    Any threshold between two neighbouring values gives the same verdicts. Of the intervals that
    are best the middle of the widest counts, of these the lowest; where none is better than a
    threshold outside of all values, which gives one verdict for all, there is nothing to shift
    by, and it is 0.
    """
    values = odds.unique().tolist()  # sorted
    found = [
        (balanced_accuracy(odds - (low + high) / 2, examples), high - low, -low, (low + high) / 2)
        for low, high in pairwise(values)
    ]
    one_verdict = balanced_accuracy(odds - odds.max() - 1, examples)
    best = max(found, default=None)
    return best[3] if best and best[0] > one_verdict else 0.0


def _threshold(material: Material) -> Fitted:
    """Fits one offset on the development split."""
    odds = odds_of(material.scores(material.development))
    offset = -best_threshold(odds, material.development)
    reached = balanced_accuracy(odds + offset, material.development)
    return Fitted(
        adjusted=lambda evaluation: shifted(evaluation, offset),
        parameters=1,
        chosen={"offset": offset, "balanced accuracy": reached},
    )


def _contextual(material: Material) -> Fitted:
    """Estimates the offset on content-free inputs (Zhao et al., 2021)."""

    def inputs(form: Form, examples: Sequence[BinaryExample]) -> Iterator[BinaryExample]:
        for text in CONTENT_FREE:
            yield _filled(form, text, text, text)

    return Fitted(adjusted=lambda evaluation: _calibrated(material, evaluation, inputs))


def _domain_context(material: Material) -> Fitted:
    """Estimates the offset on random words of the evaluated texts (Fei et al., 2023).

    Each place of the prompt is filled with words that stand there in the evaluated examples, as
    many as there are on average, drawn with replacement.
    """

    def inputs(form: Form, examples: Sequence[BinaryExample]) -> Iterator[BinaryExample]:
        rng = random.Random(f"{material.settings.seed}/domain-context/{form}")
        texts = [
            [one.question for one in examples],
            [one.answer or "" for one in examples],
            [one.context or "" for one in examples],
        ]
        for _ in range(DRAWS):
            yield _filled(form, *(_random_text(place, rng) for place in texts))

    return Fitted(adjusted=lambda evaluation: _calibrated(material, evaluation, inputs))


def _batch(material: Material) -> Fitted:
    """Estimates the offset on the evaluated examples, without their labels (Zhou et al., 2024).

    The estimate of the prior is the mean of the probabilities over the batch.
    """

    def adjusted(evaluation: Evaluation) -> Evaluation:
        return shifted(evaluation, -_log_odds_of_mean(odds_of(evaluation.scores)))

    return Fitted(adjusted=adjusted)


def _calibrated(
    material: Material,
    evaluation: Evaluation,
    inputs: Callable[[Form, Sequence[BinaryExample]], Iterator[BinaryExample]],
) -> Evaluation:
    """Shifts the log odds by minus those of the mean probabilities on inputs without content.

    Args:
        material: whose model and settings score the inputs.
        evaluation: what is shifted; examples of another form of the prompt have another offset.
        inputs: makes the inputs of a form out of the examples of that form.
    """
    places: dict[Form, list[int]] = {}
    for place, example in enumerate(evaluation.examples):
        places.setdefault(_form(example), []).append(place)
    offsets = torch.zeros(len(evaluation.examples), dtype=torch.float64)
    for form, own in places.items():
        empty = list(inputs(form, [evaluation.examples[place] for place in own]))
        offsets[own] = -_log_odds_of_mean(odds_of(material.scores(empty)))
    return shifted(evaluation, offsets)


def _log_odds_of_mean(odds: Tensor) -> Tensor:
    """The log odds of the mean of the probabilities that log odds [N] are of, a scalar.

    The mean of the other word's is not 1 minus this mean, where that would be rounded to 0.
    """
    return odds.sigmoid().mean().log() - (-odds).sigmoid().mean().log()


def _form(example: BinaryExample) -> Form:
    return example.answer is not None, bool(example.context), example.negated


def _filled(form: Form, question: str, answer: str, context: str) -> BinaryExample:
    """The example of a form whose places are filled; its label means nothing."""
    has_answer, has_context, negated = form
    return BinaryExample(
        question=question,
        label=True,
        answer=answer if has_answer else None,
        context=(context or " ") if has_context else None,  # an empty one would take its heading
        negated=negated,
    )


def _random_text(texts: Sequence[str], rng: random.Random) -> str:
    """Words out of texts, drawn with replacement, as many as a text has on average."""
    words = [word for text in texts for word in text.split()]
    count = round(len(words) / len(texts))
    return " ".join(rng.choices(words, k=max(1, count))) if words else ""


_LOGITS = "log probabilities of the answer words"

THRESHOLD = Rival(
    "threshold", "threshold fitted on the development split", _LOGITS, True, _threshold
)
CONTEXTUAL = Rival(
    "contextual",
    "contextual calibration (Zhao et al., 2021)",
    f"{_LOGITS}, and 3 prompts in advance",
    True,
    _contextual,
)
DOMAIN_CONTEXT = Rival(
    "domain-context",
    "domain-context calibration (Fei et al., 2023)",
    f"{_LOGITS}, and {DRAWS} prompts of the domain's words in advance",
    True,
    _domain_context,
)
BATCH = Rival(
    "batch",
    "batch calibration (Zhou et al., 2024)",
    f"{_LOGITS}, of a batch of questions together",
    True,
    _batch,
)
