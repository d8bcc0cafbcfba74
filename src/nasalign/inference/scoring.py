"""Scoring of yes/no prompts in batches: probabilities, verdicts and NAS."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Decoder, NasRows, Scenario, Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.inference.batches import check_lengths, in_batches
from nasalign.inference.forward import answer_logits, over_tokens
from nasalign.inference.generation import generate
from nasalign.inference.kept_results import reusing
from nasalign.inference.packed_batches import packed_batches
from nasalign.inference.verdicts import Verdict, final_line, likeliest, parse_final, parse_verdict
from nasalign.models import processes
from nasalign.nas.heads import model_nas
from nasalign.nas.recorder import NasRecorder
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder, template_of
from nasalign.prompts.user_template import PromptTemplate
from nasalign.prompts.wordings import Vocabulary

VERDICT_TOKENS = 8
"""Tokens generated at most for a verdict."""
REASONING_TOKENS = 256
"""Tokens generated at most for a chain of thought, unless given."""


@dataclass(frozen=True, repr=False)
class Scores:
    """A model's answers to N prompts, in their order.

    Attributes:
        p_positive: probability that the answer begins with the positive word, [N] float32.
        p_negative: probability of the negative word (the paper's negative confidence), [N] float32.
        verdicts: N verdicts of the decoder.
        nas: [N, L, H] on the CPU, float32 (float64 of a float64 model), NaN where a layer has no
            such head; [N, 0, 0] if not recorded.
        answers: the generated texts, or None with the decoder ``logits``.
        p_unsure: probability of the third answer, [N]; None if the prompt allows none.
    """

    p_positive: Tensor
    p_negative: Tensor
    verdicts: list[Verdict]
    nas: Tensor
    answers: list[str] | None = None
    p_unsure: Tensor | None = None

    @property
    def coverage(self) -> Tensor:
        """Probability that the answer begins with any of the words, [N] float32."""
        both = self.p_positive + self.p_negative
        return both if self.p_unsure is None else both + self.p_unsure

    def __repr__(self) -> str:
        """Return how many prompts were answered how, in a line."""
        said = Counter(self.verdicts)
        counts = ", ".join(f"{said[verdict]:,} {verdict}" for verdict in sorted(said))
        nas = f", mean model NAS {model_nas(self.nas).mean():.1f}" if self.nas.numel() else ""
        return f"Scores({len(self.verdicts):,} prompts: {counts or 'none'}{nas})"

    def to_frame(self) -> Any:
        """Return a pandas data frame of a row a prompt.

        Its columns are ``p_yes``, ``p_no``, ``p_unsure`` where the prompt allows it, ``coverage``,
        ``verdict``, ``nas`` (model NAS) where it was recorded, and ``answer`` where one was
        generated.
        """
        import pandas  # takes a second

        columns: dict[str, Any] = {
            "p_yes": self.p_positive.tolist(),
            "p_no": self.p_negative.tolist(),
        }
        if self.p_unsure is not None:
            columns["p_unsure"] = self.p_unsure.tolist()
        columns |= {"coverage": self.coverage.tolist(), "verdict": self.verdicts}
        if self.nas.numel():
            columns["nas"] = model_nas(self.nas).tolist()
        if self.answers is not None:
            columns["answer"] = self.answers
        return pandas.DataFrame(columns)

    def _repr_html_(self) -> str:
        """Return the line and the first and last rows, for notebooks."""
        return f"<p>{escape(repr(self))}</p>{self.to_frame().to_html(max_rows=10)}"

    @property
    def finite(self) -> bool:
        """Whether no probability is NaN; NaN would compare as the negative word."""
        return bool(torch.stack([self.p_positive, self.p_negative]).isfinite().all())


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[BinaryExample],
    *,
    batch_size: int | None = None,
    vocabulary: str = "yes/no",
    instruction: str = "nasa",
    chat: bool | None = None,
    shots: Sequence[BinaryExample] = (),
    scenario: Scenario = "plain",
    decoder: Decoder = "logits",
    reasoning_tokens: int = REASONING_TOKENS,
    nas_rows: NasRows = "after_instruction",
    template: PromptTemplate | None = None,
    date: str | None = None,
    record: bool = True,
    progress: Progress | None = None,
) -> Scores:
    """Score yes/no examples with any causal model that is already in memory.

    Args:
        model: the model; left as it was.
        tokenizer: its tokenizer.
        examples: N examples.
        batch_size: prompts a batch; as many as fit a number of tokens unless given.
        vocabulary: the answer words, such as ``"yes/no"`` or ``"Ja/Nein"`` (``Vocabulary.of``).
        instruction: ``"nasa"``, ``"A"`` or ``"B"`` (Table 12).
        chat: whether to use the chat template; where there is one unless given.
        shots: examples shown with their answers before the question.
        scenario: how the prompt is worded (``prompts.scenarios``).
        decoder: ``"logits"`` compares p_positive and p_negative; ``"generate"`` decodes greedily
            and parses.
        reasoning_tokens: tokens of a chain of thought at most.
        nas_rows: the rows that Eq. 1 adds up: those after the instruction, or with
            ``"from_instruction_end"`` that of its last token too.
        template: a prompt of one's own in place of Prompt I.
        date: what a chat template is told, as ``YYYY-MM-DD``; today's unless given.
        record: whether to record the NAS; of a template that does not name both words there is
            none.
        progress: called after each batch with the number of its prompts.

    Returns:
        The scores, in the order of the examples.

    Raises:
        PromptError: an answer word is not found, or a prompt exceeds the model's context.
        ModelError: the architecture is not supported.
        NasAlignError: a chain of thought is asked for with the decoder ``logits``.
    """
    reasons = scenario == "cot"
    if reasons and decoder == "logits":
        raise NasAlignError(
            "A chain of thought has to be written out before it ends in an answer: with the "
            "scenario cot, take the decoder generate."
        )
    builder = PromptBuilder(
        tokenizer, vocabulary, instruction, chat, shots, scenario, nas_rows, template, date
    )
    prompts = [builder.binary(example) for example in examples]
    told = None if reasons else progress  # the chain of thought takes longer
    scores = score_prompts(model, prompts, batch_size=batch_size, record=record, progress=told)
    if decoder == "logits":
        return scores
    words = builder.words
    if not reasons:
        return with_generated(scores, model, tokenizer, prompts, words, batch_size)
    how: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    end = final_line(words)
    texts = generate(model, tokenizer, prompts, reasoning_tokens, until=end, **how).texts
    return replace(scores, verdicts=[parse_final(text, words) for text in texts], answers=texts)


def score_as(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[BinaryExample],
    settings: Settings,
    shots: Sequence[BinaryExample] = (),
    *,
    record: bool = True,
    progress: Progress | None = None,
) -> Scores:
    """Score examples by settings; all else is as in ``score``."""
    return score(
        model,
        tokenizer,
        examples,
        batch_size=settings.batch_size,
        vocabulary=settings.vocabulary,
        instruction=settings.instruction,
        chat=settings.chat,
        shots=shots,
        scenario=settings.scenario,
        decoder=settings.decoder,
        reasoning_tokens=settings.reasoning_tokens,
        nas_rows=settings.nas_rows,
        template=template_of(settings),
        date=settings.date,
        record=record,
        progress=progress,
    )


def with_generated(
    scores: Scores,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[BinaryPrompt],
    words: Vocabulary,
    batch_size: int | None,
) -> Scores:
    """Return scores with the texts of the decoder ``generate`` and their verdicts."""
    answers = generate(model, tokenizer, prompts, VERDICT_TOKENS, batch_size=batch_size).texts
    verdicts = [parse_verdict(answer, words) for answer in answers]
    return replace(scores, verdicts=verdicts, answers=answers)


@torch.no_grad()
def score_prompts(
    model: PreTrainedModel,
    prompts: Sequence[BinaryPrompt],
    *,
    batch_size: int | None = None,
    record: bool = True,
    progress: Progress | None = None,
    logits_of: Callable[[list[int], NasRecorder | None], Tensor] | None = None,
    padding: int | None = None,
) -> Scores:
    """Score rendered prompts with the decoder ``logits``; arguments as in ``score``.

    ``logits_of`` returns the logits [B, vocabulary] of the prompts at some indices and records
    their NAS; ``answer_logits`` of the whole model unless given. ``padding`` is the padding of a
    batch at most, in tokens.
    """
    check_lengths(model, prompts)
    record = record and all(prompt.named for prompt in prompts)

    def make() -> Scores:
        return _score_prompts(model, prompts, batch_size, record, progress, logits_of, padding)

    if logits_of:
        return make()
    how = (record, batch_size)
    return reusing("scores", prompts, how, make, _packed, _unpacked, progress)


def _packed(scores: Scores) -> tuple[dict[str, Tensor], list[Verdict]]:
    """The tensors and the verdicts of scores without generated answers."""
    tensors = {"p_positive": scores.p_positive, "p_negative": scores.p_negative, "nas": scores.nas}
    more = {} if scores.p_unsure is None else {"p_unsure": scores.p_unsure}
    return tensors | more, scores.verdicts


def _unpacked(tensors: dict[str, Tensor], verdicts: list[Verdict]) -> Scores:
    p_positive, p_negative, nas = (tensors[name] for name in ("p_positive", "p_negative", "nas"))
    return Scores(p_positive, p_negative, verdicts, nas, p_unsure=tensors.get("p_unsure"))


def _score_prompts(
    model: PreTrainedModel,
    prompts: Sequence[BinaryPrompt],
    batch_size: int | None,
    record: bool,
    progress: Progress | None,
    logits_of: Callable[[list[int], NasRecorder | None], Tensor] | None,
    padding: int | None,
) -> Scores:
    packs = None
    if batch_size is None and logits_of is None:
        packs = packed_batches(model, prompts, record)
    with NasRecorder(model) if record else nullcontext() as recorder:
        found = _Found(prompts, recorder)

        def work(indices: list[int]) -> None:
            if logits_of:
                logits = logits_of(indices, recorder)
            else:
                logits = answer_logits(model, [prompts[index] for index in indices], recorder)
            found.keep(indices, logits)

        if packs:
            packs.run(
                lambda rows, members: found.keep(members, packs.logits(rows, recorder)),
                progress,
                doing="scoring",
            )
        else:
            in_batches(model, prompts, batch_size, work, progress, doing="scoring", padding=padding)
    return found.scores()


class _Found:
    """What is found about N prompts, batch by batch.

    Args:
        prompts: all of them.
        recorder: an entered one, which has the NAS of a batch after its pass; None for no NAS.
    """

    def __init__(self, prompts: Sequence[BinaryPrompt], recorder: NasRecorder | None) -> None:
        self.prompts, self.recorder = prompts, recorder
        self.p_positive, self.p_negative, self.p_unsure = torch.zeros(3, len(prompts))
        self.nas = torch.empty(len(prompts), 0, 0)
        if recorder is not None:
            blank = recorder.blank
            self.nas = torch.zeros(len(prompts), *blank.shape, dtype=blank.dtype)

    def keep(self, indices: list[int], logits: Tensor) -> None:
        """Keep what the logits [B, vocabulary] say of the prompts at some indices."""
        probabilities = logits.float().softmax(dim=-1)
        answers = [self.prompts[index].answers for index in indices]
        # Summed on the device: [B, vocabulary] is large to copy.
        of = partial(over_tokens, probabilities, reduce=partial(torch.sum, dim=-1))
        self.p_positive[indices] = of([one.positive for one in answers]).cpu()
        self.p_negative[indices] = of([one.negative for one in answers]).cpu()
        if any(one.unsure for one in answers):
            self.p_unsure[indices] = of([one.unsure for one in answers]).cpu()
        if self.recorder is not None:
            self.nas[indices] = self.recorder.nas.cpu()

    def scores(self) -> Scores:
        """Return the scores of all prompts, also of those that other processes have kept."""
        every = (self.p_positive, self.p_negative, self.p_unsure)
        processes.add_up(*every, self.nas)
        said = zip(*(one.tolist() for one in every), strict=True)
        verdicts = [likeliest(*probabilities) for probabilities in said]
        unsure = any(prompt.answers.unsure for prompt in self.prompts)
        return Scores(*every[:2], verdicts, self.nas, p_unsure=self.p_unsure if unsure else None)
