"""Offsets of the log odds: how they are applied, and how each rival finds its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import NothingToFixError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.evaluation.platt import fit_platt
from nasalign.inference.scoring import Scores, score
from nasalign.rivals.calibration import (
    BATCH,
    CONTEXTUAL,
    DOMAIN_CONTEXT,
    PLATT,
    THRESHOLD,
    best_threshold,
    shifted,
)
from nasalign.rivals.rival import Material, Rival, balanced_accuracy, odds_of
from rivals.material import material

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerFast]
WORDS = ["Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo"]
FORMS = {  # by name: what is asked
    "verification": BinaryExample("What is the capital?", True, "Paris"),
    "question": BinaryExample("Is Paris the capital?", True),
    "context": BinaryExample("What is the capital?", True, "Paris", "Paris is the capital."),
}


@pytest.fixture
def given(llama: Tiny) -> Material:
    return material(*llama)


@pytest.fixture
def evaluated(given: Material) -> Evaluation:
    return run_evaluation(given.model, given.session.tokenizer, given.development, given.settings)


def adjustment(rival: Rival, given: Material) -> Callable[[Evaluation], Evaluation]:
    adjusted = rival.fit(given).adjusted
    assert adjusted is not None
    return adjusted


def labelled(labels: Sequence[bool]) -> list[BinaryExample]:
    return [BinaryExample("What?", label, "that") for label in labels]


def both(scores: Scores) -> Tensor:
    """Probabilities of both words, normalised over the two, [N, 2]."""
    p = torch.stack([scores.p_positive, scores.p_negative], dim=1).double()
    return p / p.sum(dim=1, keepdim=True)


def divided(evaluation: Evaluation, estimate: Tensor) -> Tensor:
    """The papers' rule: probabilities [N, 2] over an estimate [2] or [N, 2], normalised again."""
    p = both(evaluation.scores) / estimate
    return p / p.sum(dim=1, keepdim=True)


def test_an_offset_multiplies_the_odds_and_decides_by_them(evaluated: Evaluation) -> None:
    """Each example by its own offset; what is neither probability nor verdict is kept."""
    times = torch.full((len(evaluated.examples),), 3.0, dtype=torch.float64)
    times[3] = 1e20
    texts = replace(evaluated.scores, answers=["text"] * len(times))
    found = shifted(replace(evaluated, scores=texts), times.log())
    positive, negative = both(evaluated.scores).unbind(1)
    expected = times * positive / (times * positive + negative)
    torch.testing.assert_close(found.scores.p_positive, expected.float())
    torch.testing.assert_close(found.scores.p_negative, 1 - expected.float())
    assert found.scores.verdicts == ["positive" if p > 0.5 else "negative" for p in expected]
    assert found.scores.verdicts[3] == "positive"
    assert found.examples == evaluated.examples
    assert found.scores.nas is texts.nas
    assert found.scores.answers is texts.answers


def test_probabilities_that_round_to_nothing_still_have_a_verdict() -> None:
    scores = Scores(torch.tensor([1e-20]), torch.tensor([1.0]), ["negative"], torch.empty(1, 0, 0))
    evaluation = Evaluation(labelled([True]), scores)
    assert shifted(evaluation, 40.0).scores.verdicts == ["negative"]
    assert shifted(evaluation, 60.0).scores.verdicts == ["positive"]


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_equals_brute_force(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    odds = torch.randn(31, generator=generator, dtype=torch.float64).mul(4).round() / 4  # with ties
    noise = torch.randn(31, generator=generator, dtype=torch.float64)
    examples = labelled((odds + noise > 1).tolist())
    fine = torch.arange(-6.0, 6.0, 1 / 64, dtype=torch.float64) + 1 / 128
    reached = [balanced_accuracy(odds - threshold, examples) for threshold in fine]
    best = max(reached)
    found = best_threshold(odds, examples)
    assert balanced_accuracy(odds - found, examples) == best
    values = sorted(set(odds.tolist()))
    widths = {
        (low + high) / 2: high - low
        for low, high in pairwise(values)
        if balanced_accuracy(odds - (low + high) / 2, examples) == best
    }
    widest = max(widths.values())
    assert found == min(middle for middle, width in widths.items() if width == widest)


def test_of_equal_thresholds_the_middle_of_the_widest_interval() -> None:
    odds = torch.tensor([0.0, 1.0, 2.0, 8.0], dtype=torch.float64)
    examples = labelled([False, True, False, True])  # between 0 and 1, or between 2 and 8
    assert best_threshold(odds, examples) == 5.0
    assert best_threshold(odds.flip(0), examples[::-1]) == 5.0


@pytest.mark.parametrize(
    ("odds", "labels"),  # the first is the wrong way round
    [([1.0, 2.0], [True, False]), ([-3.0, -3.0], [True, False]), ([-3.0], [True])],
)
def test_no_threshold_where_none_is_better_than_one_verdict(
    odds: list[float], labels: list[bool]
) -> None:
    assert best_threshold(torch.tensor(odds, dtype=torch.float64), labelled(labels)) == 0.0


def test_the_fitted_threshold_reaches_on_the_development_split_what_it_says(
    given: Material, evaluated: Evaluation
) -> None:
    fitted = THRESHOLD.fit(given)
    assert THRESHOLD.logits
    assert fitted.adjusted is not None
    after = fitted.adjusted(evaluated)
    reached = balanced_accuracy(odds_of(after.scores), after.examples)
    before = balanced_accuracy(odds_of(evaluated.scores), evaluated.examples)
    assert reached == fitted.chosen["balanced accuracy"] > before
    assert after.scores.verdicts != evaluated.scores.verdicts


def test_platt_scaling_is_fitted_on_the_development_split_and_keeps_the_ranking(
    given: Material, evaluated: Evaluation
) -> None:
    before = tiny.state(given.model)
    odds = odds_of(evaluated.scores)
    # Labels that the log odds know something of: a random model knows nothing.
    noise = torch.randn(len(odds), generator=torch.Generator().manual_seed(1)).double()
    knows = (odds - odds.mean()) / odds.std() + noise > 0
    examples = [
        replace(one, label=bool(label))
        for one, label in zip(evaluated.examples, knows, strict=True)
    ]
    fitted = PLATT.fit(replace(given, development=examples))
    assert tiny.same(before, given.model)
    assert PLATT.logits
    assert fitted.adjusted is not None
    slope, offset = fitted.chosen["slope"], fitted.chosen["offset"]
    expected = fit_platt(odds, knows.tolist())
    assert (slope, offset) == pytest.approx((expected.slope, expected.offset), rel=1e-5)
    assert slope > 0
    asked = replace(evaluated, examples=examples)
    after = fitted.adjusted(asked)
    p_positive = (slope * odds + offset).sigmoid()
    torch.testing.assert_close(after.scores.p_positive, p_positive.float())
    said = ["positive" if p > 0.5 else "negative" for p in p_positive]
    assert after.scores.verdicts == said
    assert after.auc(10, 0)[0] == asked.auc(10, 0)[0]  # type: ignore[index]
    reached = balanced_accuracy(odds_of(after.scores), examples)
    assert reached == fitted.chosen["balanced accuracy"]


def test_platt_scaling_that_would_turn_verdicts_round_finds_nothing(
    given: Material, evaluated: Evaluation
) -> None:
    odds = odds_of(evaluated.scores)
    high = (odds > odds.median()).tolist()
    for turned in (True, False):
        examples = [
            replace(one, label=label is not turned)
            for one, label in zip(evaluated.examples, high, strict=True)
        ]
        if turned:
            with pytest.raises(NothingToFixError, match="Platt scaling finds nothing"):
                PLATT.fit(replace(given, development=examples))
        else:
            assert PLATT.fit(replace(given, development=examples)).chosen["slope"] > 0


@pytest.mark.parametrize("form", FORMS)
def test_contextual_calibration_is_the_papers_formula(given: Material, form: str) -> None:
    inputs = {
        "verification": [BinaryExample(text, True, text) for text in ("N/A", "", "[MASK]")],
        "question": [BinaryExample(text, True) for text in ("N/A", "", "[MASK]")],
        "context": [BinaryExample(t, True, t, t or " ") for t in ("N/A", "", "[MASK]")],
    }[form]
    examples = [replace(FORMS[form], question=f"{word}?") for word in WORDS]
    evaluation = run_evaluation(given.model, given.session.tokenizer, examples, given.settings)
    texts = [given.builder().binary(example).text for example in inputs]
    assert all(("Context: " in text) == (form == "context") for text in texts)  # also of ""
    content_free = both(score(given.model, given.session.tokenizer, inputs, record=False))
    expected = divided(evaluation, content_free.mean(dim=0))
    adjusted = adjustment(CONTEXTUAL, given)
    torch.testing.assert_close(both(adjusted(evaluation).scores), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rival", [CONTEXTUAL, DOMAIN_CONTEXT])
def test_every_form_of_the_prompt_has_its_own_offset(given: Material, rival: Rival) -> None:
    adjusted = adjustment(rival, given)
    mixed = [replace(one, question=f"{word}?") for word in WORDS for one in FORMS.values()]
    evaluation = run_evaluation(given.model, given.session.tokenizer, mixed, given.settings)
    together = odds_of(adjusted(evaluation).scores)
    for number in range(len(FORMS)):
        alone = list(range(number, len(mixed), len(FORMS)))
        torch.testing.assert_close(
            odds_of(adjusted(evaluation.of(alone)).scores), together[alone], rtol=1e-4, atol=1e-5
        )
    moved = together - odds_of(evaluation.scores)
    assert len({round(float(offset), 4) for offset in moved}) == len(FORMS)


@pytest.mark.parametrize("rival", [CONTEXTUAL, DOMAIN_CONTEXT, BATCH])
def test_labels_are_not_looked_at(given: Material, evaluated: Evaluation, rival: Rival) -> None:
    assert rival.logits
    adjusted = adjustment(rival, given)
    flipped = [replace(example, label=not example.label) for example in evaluated.examples]
    other = adjusted(replace(evaluated, examples=flipped))
    assert other.scores.p_positive.equal(adjusted(evaluated).scores.p_positive)


def test_random_texts_are_of_the_words_and_the_length_of_the_evaluated_ones(
    given: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BinaryExample] = []
    recorded(monkeypatch, seen)
    examples = [
        BinaryExample("one two three four", True, "alpha"),
        BinaryExample("one two five six seven eight", False, "beta gamma delta"),
    ]
    adjusted = adjustment(DOMAIN_CONTEXT, given)
    adjusted(evaluation_of(examples))
    assert len(seen) == 20
    assert {len(example.question.split()) for example in seen} == {5}
    assert {len(str(example.answer).split()) for example in seen} == {2}
    words = {word for example in seen for word in example.question.split()}
    assert words == {"one", "two", "three", "four", "five", "six", "seven", "eight"}
    words = {word for example in seen for word in str(example.answer).split()}
    assert words <= {"alpha", "beta", "gamma", "delta"}
    assert len({example.question for example in seen}) > 10
    first = list(seen)
    seen.clear()
    adjusted(evaluation_of(examples))
    assert seen == first  # by the seed


def test_domain_context_calibration_is_the_papers_formula(
    given: Material, evaluated: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    adjusted = adjustment(DOMAIN_CONTEXT, given)
    found = both(adjusted(evaluated).scores)
    seen: list[BinaryExample] = []
    recorded(monkeypatch, seen)
    adjusted(evaluated)
    prior = both(score(given.model, given.session.tokenizer, seen, record=False)).mean(dim=0)
    torch.testing.assert_close(found, divided(evaluated, prior), rtol=1e-5, atol=1e-6)


def test_batch_calibration_is_the_papers_formula(given: Material, evaluated: Evaluation) -> None:
    adjusted = adjustment(BATCH, given)
    after = adjusted(evaluated)
    prior = both(evaluated.scores).mean(dim=0)
    expected = divided(evaluated, prior)
    torch.testing.assert_close(both(after.scores), expected, rtol=1e-5, atol=1e-6)
    greater = (both(evaluated.scores).log() - prior.log()).argmax(dim=1)
    assert after.scores.verdicts == [("positive", "negative")[place] for place in greater]


def evaluation_of(examples: Sequence[BinaryExample]) -> Evaluation:
    half = torch.full((len(examples),), 0.5)
    return Evaluation(
        examples, Scores(half, half, ["invalid"] * len(half), torch.empty(len(half), 0, 0))
    )


def recorded(monkeypatch: pytest.MonkeyPatch, seen: list[BinaryExample]) -> None:
    """Lets a material's scores be noted instead of computed."""

    def scores(self: Material, examples: Sequence[BinaryExample]) -> Scores:
        seen.extend(examples)
        return evaluation_of(examples).scores

    monkeypatch.setattr(Material, "scores", scores)
