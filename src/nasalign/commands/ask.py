"""Asking the untouched model and the aligned one, both in one memory: the rows are swapped."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.commands.evaluate import adapter_folder
from nasalign.commands.job import Job
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.evaluation.evaluation import run_evaluation
from nasalign.evaluation.side_effects import change_of
from nasalign.inference.attention_map import HeadAttention, attention_map, readable_tokens
from nasalign.inference.generation import TokenIds, generate
from nasalign.models import processes
from nasalign.models.memory import explained
from nasalign.nas.heads import Head, model_nas
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.scenarios import in_scenario

TOP = 8
"""Heads that are shown of a question."""
FREE_TOKENS = 128
"""Tokens of a free answer at most."""
_NOWHERE = re.compile(r"(?!)")
T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A model that is asked twice, as it is and with the rows that an adapter changes.

    It is left untouched after each question. One thread may ask it at a time.

    Attributes:
        model: the untouched model.
        tokenizer: its tokenizer.
        settings: how it is asked.
        adapter: what makes it the aligned one, or None to ask the untouched model alone.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: Settings
    adapter: Adapter | None

    @classmethod
    def open(cls, job: Job, adapter: Path | None) -> "Pair":
        """Loads a model, and an adapter for it if one is given.

        Raises:
            NasAlignError: the model, a setting or the adapter does not fit, or there are several
                processes.
        """
        if processes.count() > 1:
            raise NasAlignError("One process is enough to ask questions; start it without others.")
        model, tokenizer, settings = job.open()
        loaded = load_adapter(adapter_folder(adapter), model) if adapter else None
        return cls(model, tokenizer, settings, loaded)

    @property
    def words(self) -> tuple[str, str]:
        """The positive and the negative answer word."""
        words = PromptBuilder.of(self.tokenizer, self.settings).words
        return words.positive, words.negative

    def ask(self, example: BinaryExample, top: int = TOP) -> dict[str, dict[str, Any]]:
        """Asks a yes/no question.

        Returns:
            By ``untouched`` and ``aligned``: p_yes, p_no, verdict, nas, and the ``top`` heads whose
            NAS is largest in size.

        Raises:
            NasAlignError: the prompt exceeds the model's context, or cannot be scored.
        """
        return self._both(lambda: self._answer(example, top))

    def free(self, message: str) -> dict[str, dict[str, str]]:
        """Sends a message as it is; returns each side's greedy answer, its ``text``.

        Raises:
            NasAlignError: the message exceeds the model's context, or the template fails.
        """
        builder = PromptBuilder.of(self.tokenizer, self.settings)
        prompt = TokenIds(builder.message(message))

        def answer() -> dict[str, str]:
            found = generate(self.model, self.tokenizer, [prompt], FREE_TOKENS, until=_NOWHERE)
            return {"text": found.texts[0]}

        return self._both(answer)

    def look(self, example: BinaryExample, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Says where some heads look while the model reads a yes/no question.

        Returns:
            ``tokens`` of the prompt as text, the places ``yes`` and ``no`` of the instruction's
            words, and ``heads``, each with ``layer``, ``head`` and, by side, its ``nas`` and the
            ``weights`` of the last token on all tokens.

        Raises:
            NasAlignError: as for ``ask``.
        """
        (asked,) = in_scenario([example], self.settings.scenario)
        scenario = self.settings.scenario
        prompt = PromptBuilder.of(self.tokenizer, self.settings, (), scenario).binary(asked)
        maps = self._both(lambda: attention_map(self.model, [prompt], heads)[0])
        return {
            "tokens": readable_tokens(self.tokenizer, prompt.token_ids),
            "yes": prompt.positive_position,
            "no": prompt.negative_position,
            "heads": [
                {"layer": layer, "head": head}
                | {side: _weights(found[place]) for side, found in maps.items()}
                for place, (layer, head) in enumerate(heads)
            ],
        }

    @torch.no_grad()
    def _both(self, work: Callable[[], T]) -> dict[str, T]:
        """What is done with the untouched model and, if there is an adapter, with the aligned."""
        with explained("answering", self.model):  # what it held is free for the next question
            found = {"untouched": work()}
            if self.adapter:
                with change_of(self.adapter)(self.model):
                    found["aligned"] = work()
        return found

    def _answer(self, example: BinaryExample, top: int) -> dict[str, Any]:
        scores = run_evaluation(self.model, self.tokenizer, [example], self.settings).scores
        heads = scores.nas.shape[2]
        flat = scores.nas[0].flatten()
        order = flat.abs().argsort(descending=True)[:top].tolist()
        return {
            "p_yes": float(scores.p_positive[0]),
            "p_no": float(scores.p_negative[0]),
            "verdict": scores.verdicts[0],
            "nas": float(model_nas(scores.nas)[0]),
            "heads": [Head(at // heads, at % heads, float(flat[at]))._asdict() for at in order],
        }


def ask_job(job: Job, example: BinaryExample, adapter: Path | None) -> dict[str, dict[str, Any]]:
    """Asks one yes/no question of a model, and of the aligned one if an adapter is given.

    Returns and raises: see ``Pair.ask`` and ``Pair.open``.
    """
    return Pair.open(job, adapter).ask(example)


def shown_heads(answers: dict[str, dict[str, Any]]) -> list[tuple[int, int]]:
    """Returns the heads that weigh most on any side of an answer, each once, as layer and head."""
    named = [(head["layer"], head["head"]) for side in answers.values() for head in side["heads"]]
    return list(dict.fromkeys(named))


def _weights(attention: HeadAttention) -> dict[str, Any]:
    """The weights to four digits: a prompt may have thousands of tokens."""
    weights = [float(f"{weight:.4g}") for weight in attention.last.tolist()]
    return {"nas": attention.nas, "weights": weights}
