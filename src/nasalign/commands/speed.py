"""The speed of a model on this machine, timed on a few prompts of a run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nasalign.data.records import Question
from nasalign.inference.batches import CPU_TOKENS
from nasalign.inference.generation import FIRST_LINE, TokenIds, generate
from nasalign.inference.scoring import score_prompts
from nasalign.session import Session

_LONG = 8.0  # seconds of a trial after which none is larger
_SURE = 3.0  # seconds of a trial that is not repeated


@dataclass(frozen=True)
class Speed:
    """Seconds of a model on this machine, in batches as a run has them.

    Attributes:
        token: of a token of a prompt that is scored.
        answer: of a free answer of one line.
    """

    token: float
    answer: float


def measure_speed(session: Session, prompts: Sequence[Any], asked: Sequence[Question]) -> Speed:
    """Time scoring and free answers, each on batches that grow until one takes some seconds.

    Args:
        session: with the model.
        prompts: Prompt I, to be scored.
        asked: questions, to be answered freely.
    """
    model, settings, builder = session.model, session.settings, session.builder()
    ids = [TokenIds(builder.parametric(one)) for one in asked]

    def scoring(count: int) -> float:
        some = _alike(prompts, count)
        return _timed(lambda: score_prompts(model, some, batch_size=count))

    def answering(count: int) -> float:
        how: dict[str, Any] = {"until": FIRST_LINE, "batch_size": count}
        some, most = _alike(ids, count), settings.answer_tokens
        return _timed(lambda: generate(model, session.tokenizer, some, most, **how))

    most = max(
        1, len(prompts) // 2
    )  # the longest of all would not be in one batch with the shortest
    length = _mean_length(_alike(prompts, most))
    scored = _line(scoring, most)
    answered = _line(answering, len(ids))
    tokens = _mean_length(ids)
    sizes = [settings.batch_size or max(1, CPU_TOKENS / one) for one in (length, tokens)]
    return Speed((scored[1] + scored[0] / sizes[0]) / length, answered[1] + answered[0] / sizes[1])


def _alike(prompts: Sequence[Any], count: int) -> list[Any]:
    """The ``count`` prompts of middle length, as a run has prompts of like length in a batch."""
    ordered = sorted(prompts, key=lambda one: len(one.token_ids))
    start = (len(ordered) - count) // 2
    return ordered[start : start + count]


def _mean_length(prompts: Sequence[Any]) -> float:
    return sum(len(one.token_ids) for one in prompts) / len(prompts)


def _line(seconds_of: Callable[[int], float], most: int) -> tuple[float, float]:
    """The seconds of a batch and of each sample in it, from the two largest batches tried.

    Smaller ones tell little: two samples take a multiple of what each of many takes.
    """
    seconds_of(1)  # the first pass of all prepares what later ones use
    size = min(2, most)
    seconds = seconds_of(size)
    fixed, each = 0.0, seconds / size
    while size < most and seconds < _LONG:
        smaller, short = size, seconds
        size = min(4 * size, most)
        seconds = seconds_of(size)
        each = (seconds - short) / (size - smaller)
        fixed = short - smaller * each
        if each <= 0 or fixed < 0:  # no time of the batch itself can be seen
            fixed, each = 0.0, seconds / size
    return fixed, each


def _timed(work: Callable[[], Any]) -> float:
    """Seconds of some work; the faster of two times, as other programs may disturb one."""
    first = _once(work)
    return first if first > _SURE else min(first, _once(work))


def _once(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
