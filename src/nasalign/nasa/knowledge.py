"""What the model knows: free answers under Prompt II, judged and classified (Appendices E, G)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings
from nasalign.data.conversation import Chat
from nasalign.data.judge import judge
from nasalign.data.records import Question
from nasalign.errors import DataError
from nasalign.inference.generation import Generated, TokenIds, generate
from nasalign.io.files import check_rows
from nasalign.progress import Progress
from nasalign.prompts.builder import PromptBuilder

Knowledge = Literal["Det-T", "Det-F", "Non-Det", "unclear"]

_NO_ANSWER = re.compile(
    r"\b(?:(?:do|does|did|could|can|would)(?: not|n['\u2019]t) (?:know|have|find|determine|provide"
    r"|specify|mention|answer|say|tell)|cannot (?:be )?(?:determine|answer|provide|find|know|tell)"
    r"|(?:is|are|was|were)(?: not|n['\u2019]t) (?:provided|given|mentioned|specified|stated|known"
    r"|available|clear|enough|possible|sufficient|explicitly)|unknown|unanswerable|unclear|unsure"
    r"|not (?:sure|enough|provided|mentioned|specified|known|available)|no (?:information|answer"
    r"|mention)|insufficient|need more)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parametric:
    """A question with the model's free answer to it under Prompt II.

    Attributes:
        question: the question.
        prediction: the model's greedy answer, its first line.
        right: whether that is the answer; None where the judge said neither yes nor no.
        entropy: of the distribution of its first token, in nats.
    """

    question: Question
    prediction: str
    right: bool | None
    entropy: float = 0.0

    @property
    def known(self) -> bool:
        """Whether the answer was judged right."""
        return self.right is True

    @property
    def knowledge(self) -> Knowledge:
        """Answered rightly (Det-T), wrongly (Det-F) or not at all (Non-Det), as in Appendix G."""
        if self.right:
            return "Det-T"
        if not self.prediction or _NO_ANSWER.search(self.prediction):
            return "Non-Det"
        return "unclear" if self.right is None else "Det-F"


def free_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: Settings,
    progress: Progress | None = None,
) -> Generated:
    """Asks each question by Prompt II and decodes greedily.

    Raises:
        DataError: there is no question.
    """
    if not questions:
        raise DataError("The probing set is empty: there is no short-answer question to ask.")
    builder = PromptBuilder.of(tokenizer, settings)
    return generate(
        model,
        tokenizer,
        [TokenIds(builder.parametric(question)) for question in questions],
        settings.answer_tokens,
        batch_size=settings.batch_size,
        progress=progress,
    )


def judged(
    questions: Sequence[Question],
    answers: Generated,
    chat: Chat | None = None,
    progress: Progress | None = None,
) -> list[Parametric]:
    """Judges free answers by a language model, or by normalised match without one."""
    verdicts = judge(questions, answers.texts, chat, progress)
    return [
        Parametric(*parts)
        for parts in zip(questions, answers.texts, verdicts, answers.entropies, strict=True)
    ]


def parametric_rows(samples: Sequence[Parametric]) -> list[dict[str, Any]]:
    """Returns a plain row a question, for ``parametric.jsonl``."""
    return [
        {
            "id": sample.question.id,
            "question": sample.question.question,
            "answer": sample.question.answer,
            "prediction": sample.prediction,
            "right": sample.right,
            "knowledge": sample.knowledge,
            "entropy": sample.entropy,
            "confident": sure,
        }
        for sample, sure in zip(samples, confident(samples), strict=True)
    ]


def parametric_from_rows(
    questions: Sequence[Question], rows: Sequence[dict[str, Any]]
) -> list[Parametric]:
    """Returns what rows of ``parametric.jsonl`` say of the same questions.

    Raises:
        NasAlignError: they are of other questions.
    """
    asked = [{"question": one.question, "answer": one.answer} for one in questions]
    check_rows(rows, asked, "parametric.jsonl")
    return [
        Parametric(question, row["prediction"], row["right"], row["entropy"])
        for question, row in zip(questions, rows, strict=True)
    ]


def confident(samples: Sequence[Parametric]) -> list[bool]:
    """Says which answers are confident: their entropy is at most the median of all (App. G)."""
    middle = median(sample.entropy for sample in samples)
    return [sample.entropy <= middle for sample in samples]
