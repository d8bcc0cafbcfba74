"""The model that the API serves: prompts of requests, and the answers of both models to them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from nasalign.adapters.scaling import PlattScaling
from nasalign.errors import PromptError
from nasalign.evaluation.both_models import BothModels
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.batches import tokens_of_batch
from nasalign.inference.halves import Halves
from nasalign.inference.prefix_groups import tokens_to_run
from nasalign.inference.scoring import Scores
from nasalign.inference.verdicts import Verdict
from nasalign.models.loading import context_length
from nasalign.models.memory import explained
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.prompts.scenarios import in_scenario
from nasalign.prompts.wordings import Vocabulary
from nasalign.serve.api_errors import RequestError

REQUEST_BATCHES = 16
"""Batches of tokens that one request may have; those that its prompts share count once."""


@dataclass(frozen=True)
class WordProbabilities:
    """What one model says to one prompt."""

    positive: float  # probability that the answer begins with the positive word
    negative: float
    unsure: float | None  # of the third answer; None if the prompt allows none
    verdict: Verdict

    @property
    def coverage(self) -> float:
        """Probability that the answer begins with any of the words."""
        return self.positive + self.negative + (self.unsure or 0.0)

    def probability(self, scaling: PlattScaling | None = None) -> float:
        """Return the probability of the positive word if the answer is one of the two words.

        It is the share of the positive word in both, or that after Platt scaling.
        """
        both = torch.tensor([self.positive]), torch.tensor([self.negative])
        odds = torch.from_numpy(log_odds(*both))
        return float((scaling.of(odds) if scaling else odds).sigmoid())


@dataclass(frozen=True)
class PromptAnswer:
    """What is answered to one prompt."""

    tokens: int  # of the prompt
    own: WordProbabilities  # of the model that is served
    untouched: WordProbabilities | None  # None without an adapter, or if it is not asked


@dataclass(frozen=True)
class ServedModel:
    """A model as the API serves it. Only one thread may ask it.

    Attributes:
        models: the untouched model and the adapter of the served one, if there is one.
        name: the model's name in requests and responses.
        calibration: Platt scaling of the served model for the prompts of ``models.session``, or
            None; it is not used for messages in other words.
        compare: whether the untouched model is asked too, which takes as long again.
    """

    models: BothModels
    name: str
    calibration: PlattScaling | None = None
    compare: bool = True

    @property
    def words(self) -> Vocabulary:
        """The answer words."""
        return self._builder.words

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the untouched model's weights."""
        return self.models.session.fingerprint

    def check_name(self, name: str) -> None:
        """Raise RequestError if a request is for another model."""
        if name != self.name:
            raise RequestError(
                f"There is no model {name!r} here; this server has {self.name!r}.",
                "model",
                "model_not_found",
                404,
            )

    def conversation(self, turns: Sequence[tuple[str, str]]) -> BinaryPrompt:
        """Return the prompt of messages as they are (``PromptBuilder.conversation``)."""
        return self._builder.conversation(turns)

    def question(self, values: Mapping[str, str | None]) -> BinaryPrompt:
        """Return the prompt in which ``ask`` asks a question, from values as ``ask`` takes them."""
        scenario = self.models.session.settings.scenario
        if scenario == "cot":
            raise RequestError(
                "This server asks for a chain of thought, which has no probabilities; start it "
                "with another scenario."
            )
        (example,) = in_scenario([self.models.example(values)], scenario)
        # All of its tokens may be shared with other prompts: its NAS is not recorded.
        prompt = self._builder.binary(example)
        return replace(prompt, first_row=len(prompt.token_ids) - 1)

    def check_lengths(self, prompts: Sequence[BinaryPrompt]) -> None:
        """Refuse prompts that the model cannot read, or that keep all others waiting.

        Raises:
            RequestError: a prompt exceeds the model's context, or all of them have more than
                ``REQUEST_BATCHES`` batches of tokens.
        """
        limit, longest = context_length(self.models.model), max(len(p.token_ids) for p in prompts)
        if limit is not None and longest > limit:
            raise RequestError(
                f"The prompt has {longest:,} tokens, more than the model's context of {limit:,}; "
                "shorten it.",
                code="context_length_exceeded",
            )
        tokens, most = tokens_to_run(prompts), REQUEST_BATCHES * tokens_of_batch(self.models.model)
        if tokens > most and len(prompts) > 1:
            raise RequestError(
                f"The request has {tokens:,} tokens to read, and {most:,} at most are read for one "
                "request; ask fewer questions at once.",
                code="request_too_large",
            )

    @torch.no_grad()
    def answer(self, prompts: Sequence[BinaryPrompt]) -> list[PromptAnswer]:
        """Answer prompts, each as if it were alone but for rounding.

        Raises:
            NasAlignError: memory runs out, or the probabilities are not finite.
        """
        model, adapter = self.models.model, self.models.adapter
        with explained("answering", model):
            untouched = None
            if adapter is None or self.compare:
                untouched = _each(self._halves.score(prompts))
            own = untouched
            if adapter is not None:
                with adapter.on(model):
                    own = _each(self._halves.score(prompts))
        assert own is not None
        others = untouched if adapter is not None and untouched else [None] * len(prompts)
        return [
            PromptAnswer(len(prompt.token_ids), one, other)
            for prompt, one, other in zip(prompts, own, others, strict=True)
        ]

    def facts(self, answer: PromptAnswer, scaling: PlattScaling | None) -> dict[str, Any]:
        """Return what the API says beyond OpenAI's fields about an answer."""
        found = {**_shown(answer.own, scaling), "calibrated": scaling is not None}
        return found | {"untouched": _shown(answer.untouched) if answer.untouched else None}

    @cached_property
    def _halves(self) -> Halves:
        return Halves(self.models.model)

    @cached_property
    def _builder(self) -> PromptBuilder:
        # It keeps the tokens of the answer words, so that it is made once.
        session = self.models.session
        scenario = session.settings.scenario
        return session.builder(scenario=scenario if scenario != "cot" else "plain")


def _shown(said: WordProbabilities, scaling: PlattScaling | None = None) -> dict[str, Any]:
    return {
        "verdict": said.verdict,
        "probability": said.probability(scaling),
        "coverage": said.coverage,
    }


def _each(scores: Scores) -> list[WordProbabilities]:
    """The answers of one model, by prompt."""
    if not scores.finite:
        raise PromptError(
            "The model's probabilities are not finite numbers; load it with --dtype float32."
        )
    unsure: list[float | None] = [None] * len(scores.verdicts)
    if scores.p_unsure is not None:
        unsure = [*scores.p_unsure.tolist()]
    columns = scores.p_positive.tolist(), scores.p_negative.tolist(), unsure, scores.verdicts
    return [WordProbabilities(*one) for one in zip(*columns, strict=True)]


def log_probability(probability: float) -> float:
    """Return a natural logarithm; OpenAI's -9999.0 for what is as good as impossible."""
    return math.log(probability) if probability > 0 else -9999.0
