"""The untouched model and the aligned one in one memory: the changed rows are swapped."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from nasalign.adapters.adapter import Adapter
from nasalign.adapters.scaling import Calibration, PlattScaling
from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.evaluation.evaluation import run_evaluation
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.attention_map import HeadAttention, attention_map, readable_tokens
from nasalign.inference.generation import TokenIds, generate
from nasalign.models.memory import explained
from nasalign.nas.heads import Head, model_nas, places
from nasalign.prompts.builder import template_of
from nasalign.prompts.scenarios import in_scenario
from nasalign.session import Session

TOP = 8
"""Heads shown per question."""
FREE_TOKENS = 128
"""Maximum length of a free answer, in tokens."""
_NOWHERE = re.compile(r"(?!)")  # matches nothing: a free answer ends at its last token only
T = TypeVar("T")


@dataclass(frozen=True)
class BothModels:
    """A model that is asked twice: as it is, and with the rows of an adapter.

    The model is untouched again after each question. Not thread-safe.

    Attributes:
        session: the untouched model, and the settings by which it is asked.
        adapter: the change that makes it the aligned model, or None to ask the untouched one alone.
        calibration: of both models (``read_calibration``); it is used where it ``fits`` the prompt.
    """

    session: Session
    adapter: Adapter | None
    calibration: Calibration | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The untouched model."""
        return self.session.model

    @property
    def words(self) -> tuple[str, str]:
        """The positive and the negative answer word."""
        words = self.session.builder().words
        return words.positive, words.negative

    @property
    def columns(self) -> tuple[str, ...]:
        """What a question consists of: the placeholders of the user's template, or Prompt I's."""
        template = template_of(self.session.settings)
        return template.columns if template else ("question", "answer", "context")

    def example(self, values: Mapping[str, str | None]) -> BinaryExample:
        """Return a question to ask; the label is not used.

        Args:
            values: by name as in ``columns``; of Prompt I only the question must be there. Where a
                template has one placeholder, a ``question`` stands for it.

        Raises:
            PromptError: something is missing, or is not asked for.
        """
        given = {name: value for name, value in values.items() if value}
        columns = self.columns
        if len(columns) == 1 and list(given) == ["question"]:
            given = {columns[0]: given["question"]}
        unknown = [name for name in given if name not in columns]
        own = template_of(self.session.settings)
        missing = [name for name in (columns if own else ("question",)) if name not in given]
        if missing == ["question"] and not own:
            raise PromptError("There is no question; type one.")
        if unknown or missing:
            what = f"{unknown[0]} is not asked for" if unknown else f"{missing[0]} is missing"
            raise PromptError(f"The prompt takes {', '.join(columns)}; {what}.")
        fields = tuple((name, given[name]) for name in columns if name in given)
        question = given.get("question") or " ".join(value for _, value in fields)
        return BinaryExample(
            question, True, given.get("answer"), given.get("context"), fields=fields if own else ()
        )

    def ask(self, example: BinaryExample) -> dict[str, dict[str, Any]]:
        """Ask a yes/no question.

        Returns:
            By ``untouched`` and ``aligned``: p_yes, p_no, verdict, coverage, nas, the ``TOP`` heads
            whose NAS is largest in absolute value, and, where that model has a calibration that
            fits the prompt, p_yes_calibrated.

        Raises:
            NasAlignError: the prompt exceeds the model's context, or cannot be scored.
        """
        answers = self._both(lambda: self._answer(example))
        for side, scaling in self.scalings().items():
            if side in answers:
                answer = answers[side]
                odds = log_odds(torch.tensor(answer["p_yes"]), torch.tensor(answer["p_no"]))
                answer["p_yes_calibrated"] = float(scaling.probability(torch.tensor(odds)))
        return answers

    def free(self, message: str) -> dict[str, dict[str, str]]:
        """Send a message as it is; return the greedy answer of each model as ``text``.

        Raises:
            NasAlignError: the message exceeds the model's context, or the template fails.
        """
        builder = self.session.builder()
        prompt = TokenIds(builder.message(message))

        def answer() -> dict[str, str]:
            found = generate(
                self.model, self.session.tokenizer, [prompt], FREE_TOKENS, until=_NOWHERE
            )
            return {"text": found.texts[0]}

        return self._both(answer)

    def look(self, example: BinaryExample, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Return the attention of some heads while the model reads a yes/no question.

        Returns:
            ``tokens`` of the prompt as text, the positions ``yes`` and ``no`` of the instruction's
            words, and ``heads``, each with ``layer``, ``head`` and, by side, its ``nas`` and the
            attention ``weights`` of the last token to all tokens; no head if the prompt does not
            name both words.

        Raises:
            NasAlignError: as for ``ask``.
        """
        scenario = self.session.settings.scenario
        (asked,) = in_scenario([example], scenario)
        prompt = self.session.builder(scenario=scenario).binary(asked)
        heads = heads if prompt.named else []
        maps = self._both(lambda: attention_map(self.model, [prompt], heads)[0]) if heads else {}
        return {
            "tokens": readable_tokens(self.session.tokenizer, prompt.token_ids),
            "yes": prompt.positive_position,
            "no": prompt.negative_position,
            "heads": [
                {"layer": layer, "head": head}
                | {side: _weights(found[place]) for side, found in maps.items()}
                for place, (layer, head) in enumerate(heads)
            ],
        }

    def scalings(self) -> dict[str, PlattScaling]:
        """Return the Platt scaling of each model, by its name in ``ask``, if it fits the prompt."""
        both, settings = self.calibration, self.session.settings
        if both is None or settings.scenario != "plain" or not both.fits(settings):
            return {}
        found = {"untouched": both.before, "aligned": both.after}
        return {side: scaling for side, scaling in found.items() if scaling}

    @torch.no_grad()
    def _both(self, work: Callable[[], T]) -> dict[str, T]:
        """Run work on the untouched model and, if there is an adapter, on the aligned one."""
        with explained("answering", self.model):  # frees its memory for the next question
            found = {"untouched": work()}
            if self.adapter:
                with self.adapter.on(self.model):
                    found["aligned"] = work()
        return found

    def _answer(self, example: BinaryExample) -> dict[str, Any]:
        session = self.session
        found = run_evaluation(session.model, session.tokenizer, [example], session.settings)
        scores = found.scores
        nas = scores.nas[0]
        known = places(nas)
        top = sorted(known, key=lambda place: -abs(float(nas[place])))[:TOP]
        return {
            "p_yes": float(scores.p_positive[0]),
            "p_no": float(scores.p_negative[0]),
            "verdict": scores.verdicts[0],
            "nas": float(model_nas(scores.nas)[0]) if known else None,
            "coverage": float(scores.coverage[0]),
            "heads": [Head(*place, float(nas[place]))._asdict() for place in top],
        }


def shown_heads(answers: dict[str, dict[str, Any]]) -> list[tuple[int, int]]:
    """Return the heads listed in either model's answer, each once, as (layer, head)."""
    named = [(head["layer"], head["head"]) for side in answers.values() for head in side["heads"]]
    return list(dict.fromkeys(named))


def _weights(attention: HeadAttention) -> dict[str, Any]:
    """The attention of one head; four digits a weight, as a prompt may have thousands of tokens."""
    weights = [float(f"{weight:.4g}") for weight in attention.last.tolist()]
    return {"nas": attention.nas, "weights": weights}
