"""Rivals that change the log odds of the answer words, and so need probabilities.

All probabilities in this file are of the positive word against the negative one, normalised over
the two, as the calibration papers do with the labels of a task. Dividing them by an estimate of
what the model says without a question, and normalising again, is shifting the log odds by minus
those of the estimate.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from nasalign.data.records import BinaryExample
from nasalign.errors import NothingToFixError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.platt import fit_platt
from nasalign.inference.verdicts import likeliest
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of

CONTENT_FREE = ("N/A", "", "[MASK]")
"""What Zhao et al. put in the place of an input."""
DRAWS = 20
"""Number of random texts of Fei et al."""

Form = tuple[bool, bool, bool]
"""Whether an example has an answer to verify, whether it has a context, whether it is negated."""
Inputs = Callable[[Material, Form, Sequence[BinaryExample]], list[BinaryExample]]
"""Makes inputs without content in a form, from the evaluated examples of that form."""


def shifted(evaluation: Evaluation, offset: Tensor | float) -> Evaluation:
    """Return an evaluation of N examples with shifted log odds, and the verdicts by these.

    Args:
        evaluation: its NAS and whatever else it holds are kept.
        offset: what is added to the log odds, a number or [N].
    """
    return with_odds(evaluation, odds_of(evaluation.scores) + offset)


def with_odds(evaluation: Evaluation, odds: Tensor) -> Evaluation:
    """Return an evaluation of N examples with other log odds [N], and the verdicts by these."""
    positive, negative = odds.sigmoid(), (-odds).sigmoid()
    verdicts = [likeliest(*both) for both in zip(positive.tolist(), negative.tolist(), strict=True)]
    scores = replace(
        evaluation.scores,
        p_positive=positive.float(),
        p_negative=negative.float(),
        verdicts=verdicts,
    )
    return replace(evaluation, scores=scores)


def best_threshold(odds: Tensor, examples: Sequence[BinaryExample]) -> float:
    """Return the threshold of log odds [N] with the best balanced accuracy.

    All thresholds between two neighbouring values give the same verdicts. Of the best intervals
    the middle of the widest is taken, among equals of the lowest; 0 if none is better than one
    verdict for all.
    """
    found = [
        (balanced_accuracy(odds - (low + high) / 2, examples), high - low, -low, (low + high) / 2)
        for low, high in pairwise(odds.unique().tolist())  # sorted
    ]
    one_verdict = balanced_accuracy(odds - odds.max() - 1, examples)
    best = max(found, default=None)
    return best[3] if best and best[0] > one_verdict else 0.0


def _threshold(material: Material) -> Fitted:
    """Fit one offset on the development split."""
    odds = odds_of(material.scores(material.development))
    offset = -best_threshold(odds, material.development)
    reached = balanced_accuracy(odds + offset, material.development)
    return Fitted(
        adjusted=lambda evaluation: shifted(evaluation, offset),
        parameters=1,
        chosen={"offset": offset, "balanced accuracy": reached},
    )


def _platt(material: Material) -> Fitted:
    """Fit slope and offset on the development split."""
    examples = material.development
    odds = odds_of(material.scores(examples))
    fitted = fit_platt(odds, [one.known_label for one in examples])
    # A slope below 0 would turn every verdict round: right answers then have the lower log odds,
    # as they have by chance where the model cannot tell them apart.
    if fitted.slope <= 0:
        raise NothingToFixError(
            "Platt scaling finds nothing: on the development split the log odds do not rank right "
            "answers above wrong ones."
        )
    reached = balanced_accuracy(fitted.of(odds), examples)
    return Fitted(
        adjusted=lambda evaluation: with_odds(evaluation, fitted.of(odds_of(evaluation.scores))),
        parameters=2,
        chosen={
            "slope": fitted.slope,
            "offset": fitted.offset,
            "balanced accuracy": reached,
        },
    )


def _content_free(
    material: Material, form: Form, examples: Sequence[BinaryExample]
) -> list[BinaryExample]:
    """The content-free inputs of Zhao et al. (2021)."""
    names = {"question", "answer", "context", *(name for name, _ in examples[0].fields)}
    return [_filled(form, dict.fromkeys(names, text), examples[0]) for text in CONTENT_FREE]


def _random_words(
    material: Material, form: Form, examples: Sequence[BinaryExample]
) -> list[BinaryExample]:
    """The random inputs of Fei et al. (2023).

    Each field is filled with words that occur in it among the evaluated examples, as many as there
    are on average, drawn with replacement.
    """
    rng = random.Random(f"{material.settings.seed}/domain-context/{form}")
    texts = {
        "question": [one.question for one in examples],
        "answer": [one.answer or "" for one in examples],
        "context": [one.context or "" for one in examples],
    }
    for one in examples:
        for name, text in one.fields:  # of the user's own template
            texts.setdefault(name, []).append(text)
    words = {name: " ".join(own).split() for name, own in texts.items()}
    counts = {name: max(1, round(len(own) / len(examples))) for name, own in words.items()}

    def draw() -> dict[str, str]:
        return {
            name: " ".join(rng.choices(own, k=counts[name])) if own else ""
            for name, own in words.items()
        }

    return [_filled(form, draw(), examples[0]) for _ in range(DRAWS)]


def _on_inputs(inputs: Inputs, material: Material) -> Fitted:
    """Shifts the log odds by minus those of the mean probabilities on inputs without content."""

    def adjusted(evaluation: Evaluation) -> Evaluation:
        places: dict[Form, list[int]] = {}  # the estimate depends on the form of the prompt
        for place, one in enumerate(evaluation.examples):
            form = one.answer is not None, bool(one.context), one.negated
            places.setdefault(form, []).append(place)
        offsets = torch.zeros(len(evaluation.examples), dtype=torch.float64)
        for form, own in places.items():
            empty = inputs(material, form, [evaluation.examples[place] for place in own])
            offsets[own] = -_odds_of_mean(odds_of(material.scores(empty)))
        return shifted(evaluation, offsets)

    return Fitted(adjusted=adjusted)


def _on_the_batch(material: Material) -> Fitted:
    """Estimate the offset on the evaluated examples, without their labels (Zhou et al., 2024)."""
    return Fitted(
        adjusted=lambda evaluation: shifted(evaluation, -_odds_of_mean(odds_of(evaluation.scores)))
    )


def _odds_of_mean(odds: Tensor) -> Tensor:
    """Log odds, a scalar, of the mean of the probabilities with log odds [N]."""
    # Not log(p / (1 - p)): the mean may round to 1 where that of the other word is not 0.
    return odds.sigmoid().mean().log() - (-odds).sigmoid().mean().log()


def _filled(form: Form, texts: Mapping[str, str], like: BinaryExample) -> BinaryExample:
    """An example of a form with these texts in place of another's; its label means nothing."""
    has_answer, has_context, negated = form
    return BinaryExample(
        question=texts["question"],
        label=True,
        answer=texts["answer"] if has_answer else None,
        context=(texts["context"] or " ")
        if has_context
        else None,  # "" would leave out its heading
        negated=negated,
        fields=tuple((name, texts[name]) for name, _ in like.fields),
    )


_LOGITS = "log probabilities of the answer words"

THRESHOLD = Rival(
    "threshold", "threshold fitted on the development split", _LOGITS, True, _threshold
)
PLATT = Rival("platt", "Platt scaling (Platt, 1999)", _LOGITS, True, _platt)
CONTEXTUAL = Rival(
    "contextual",
    "contextual calibration (Zhao et al., 2021)",
    f"{_LOGITS}, and 3 prompts in advance",
    True,
    partial(_on_inputs, _content_free),
)
DOMAIN_CONTEXT = Rival(
    "domain-context",
    "domain-context calibration (Fei et al., 2023)",
    f"{_LOGITS}, and {DRAWS} prompts of the domain's words in advance",
    True,
    partial(_on_inputs, _random_words),
)
BATCH = Rival(
    "batch",
    "batch calibration (Zhou et al., 2024)",
    f"{_LOGITS}, of a batch of questions together",
    True,
    _on_the_batch,
)
