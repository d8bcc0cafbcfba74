"""The probing set: what the model knows, and what it nevertheless denies (Section 4.1, App. E)."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.alignment.knowledge import Parametric
from nasalign.config import Settings
from nasalign.data.binary import positive_example
from nasalign.data.chat import Progress
from nasalign.data.prompts import BinaryPrompt, PromptBuilder
from nasalign.data.wordings import Vocabulary
from nasalign.errors import DataError, NothingToFixError
from nasalign.nas.heads import model_nas
from nasalign.nas.scoring import score_prompts, with_generated
from nasalign.nas.verdicts import Verdict

Part = Literal["TP", "tuning", "validation", "unused", "invalid"]


@dataclass(frozen=True)
class ProbingSet:
    """N parametric samples under Prompt I with the true answer; every label is positive.

    Attributes:
        samples: the questions with the model's free answers, all known.
        prompts: their Prompt I.
        verdicts: what the model says to them.
        p_positive: probability of the positive word, [N].
        p_negative: probability of the negative word, [N].
        nas: [N, L, H].
        parts: ``TP``, or of the false negatives ``tuning`` (D), ``validation`` (V) or
            ``unused``; ``invalid`` where the verdict is.
    """

    samples: list[Parametric]
    prompts: list[BinaryPrompt]
    verdicts: list[Verdict]
    p_positive: Tensor
    p_negative: Tensor
    nas: Tensor
    parts: list[Part]

    def of(self, part: Part) -> list[BinaryPrompt]:
        """Returns the prompts of a part."""
        return [
            prompt for prompt, mine in zip(self.prompts, self.parts, strict=True) if mine == part
        ]

    @property
    def tau(self) -> float:
        """Smallest model NAS among TP (Eq. 5); minus infinity if TP is empty."""
        values = model_nas(self.nas).tolist()
        return min(
            (nas for nas, part in zip(values, self.parts, strict=True) if part == "TP"),
            default=-math.inf,
        )

    def count(self, part: Part) -> int:
        """Returns the size of a part."""
        return self.parts.count(part)

    def rows(self) -> list[dict[str, Any]]:
        """Returns a plain row a sample, for ``probing.jsonl``."""
        nas = model_nas(self.nas)
        return [
            {
                "question": sample.question.question,
                "answer": sample.question.answer,
                "subject": sample.question.subject,
                "prediction": sample.prediction,
                "verdict": self.verdicts[index],
                "p_yes": float(self.p_positive[index]),
                "p_no": float(self.p_negative[index]),
                "nas": float(nas[index]),
                "split": self.parts[index],
            }
            for index, sample in enumerate(self.samples)
        ]


def build_probing_set(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parametric: Sequence[Parametric],
    settings: Settings,
    progress: Progress | None = None,
) -> ProbingSet:
    """Turns known questions into Prompt I, scores them, and splits them by verdict.

    Raises:
        DataError: the model knows no answer.
    """
    known, prompts, words = _rendered(tokenizer, parametric, settings)
    scores = score_prompts(model, prompts, batch_size=settings.batch_size, progress=progress)
    if settings.decoder == "generate":
        scores = with_generated(scores, model, tokenizer, prompts, words, settings.batch_size)
    parts = _split(known, scores.verdicts, settings)
    return ProbingSet(
        known, prompts, scores.verdicts, scores.p_positive, scores.p_negative, scores.nas, parts
    )


def probing_set_from_rows(
    tokenizer: PreTrainedTokenizerBase,
    parametric: Sequence[Parametric],
    settings: Settings,
    rows: Sequence[dict[str, Any]],
    nas: Tensor,
) -> ProbingSet:
    """Returns the probing set that rows of ``probing.jsonl`` and ``nas.safetensors`` describe."""
    known, prompts, _ = _rendered(tokenizer, parametric, settings)
    return ProbingSet(
        known,
        prompts,
        [row["verdict"] for row in rows],
        torch.tensor([row["p_yes"] for row in rows]),
        torch.tensor([row["p_no"] for row in rows]),
        nas,
        [row["split"] for row in rows],
    )


def _rendered(
    tokenizer: PreTrainedTokenizerBase, parametric: Sequence[Parametric], settings: Settings
) -> tuple[list[Parametric], list[BinaryPrompt], Vocabulary]:
    """What is known, its Prompt I with the right answer, and the answer words."""
    known = [sample for sample in parametric if sample.known]
    if not known:
        raise DataError(
            f"The model answers none of the {len(parametric)} probing questions correctly, so "
            "there is no probing set; give it easier questions with --data."
        )
    builder = PromptBuilder(tokenizer, settings.vocabulary, settings.instruction, settings.chat)
    prompts = [builder.binary(positive_example(sample.question)) for sample in known]
    return known, prompts, builder.words


def check_probing_set(probing: ProbingSet) -> None:
    """Refuses a probing set that cannot be tuned on.

    Raises:
        NothingToFixError: no known answer is denied.
        DataError: a single one is, which cannot be split into D and V.
    """
    false_negatives = probing.verdicts.count("negative")
    if false_negatives == 0:
        raise NothingToFixError(
            f"Nothing to fix: the model denies none of the {len(probing.samples)} answers it knows."
        )
    if not probing.count("tuning") or not probing.count("validation"):
        raise DataError(
            f"The probing set has {false_negatives} false negative(s) about one subject, too few "
            "to split into a fine-tuning and a validation set; give more questions with --data."
        )


def _split(
    samples: Sequence[Parametric], verdicts: Sequence[Verdict], settings: Settings
) -> list[Part]:
    """Splits the false negatives into D and V, whole subjects at a time."""
    parts: list[Part] = ["TP" if verdict == "positive" else "invalid" for verdict in verdicts]
    by_subject: dict[str, list[int]] = {}
    for index, verdict in enumerate(verdicts):
        if verdict == "negative":
            question = samples[index].question
            subject = (question.subject or question.question).casefold().strip()
            by_subject.setdefault(subject, []).append(index)
    subjects = sorted(by_subject)
    random.Random(settings.seed).shuffle(subjects)
    denied = sum(len(indices) for indices in by_subject.values())
    wanted = min(settings.validation_samples, max(1, denied // 5))
    room: dict[Part, int] = {"validation": wanted, "tuning": settings.tuning_samples}
    for subject in subjects:
        part: Part = "validation" if room["validation"] > 0 else "tuning"
        for index in by_subject[subject]:
            parts[index] = part if room[part] > 0 else "unused"
            room[part] -= 1
    return parts
