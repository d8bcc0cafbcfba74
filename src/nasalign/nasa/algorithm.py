"""Head-wise incremental tuning: Algorithm 1 (Appendix F)."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nasalign.nas.heads import Head
from nasalign.nasa.decisions import EpochRecord, HeadRecord

ABOVE = "model NAS above its start"
ENDED = "tuning was ended"
HALVINGS = 5
"""Measurements of a line search, which find the length of an epoch's update to 1/32."""
MOST_HALVINGS = 8
"""Measurements where a share of Yes there is still far above the one that halts tuning."""
FAR = 0.07
"""How far that is, about the standard error of the share of 50 answers: a model may turn from No to
Yes within a small part of an update."""


@dataclass(frozen=True)
class Measurement:
    """The state of the model on the validation set V.

    Attributes:
        nas: single head NAS on V, [L, H]; NaN where no head is.
        yes_share: share of the balance set, or of V without one, answered with the positive word;
            where a lean to Yes is corrected, with the negative one.
    """

    nas: Tensor
    yes_share: float

    def of(self, head: Head) -> float:
        """NAS(V, l, h), the alpha of Algorithm 1."""
        return float(self.nas[head.layer, head.head])

    @property
    def model(self) -> float:
        """NAS(V, L, H), the beta of Algorithm 1."""
        return float(self.nas.nansum())


class HeadTuner(Protocol):
    """The operations of Algorithm 1 on a model; ``training.RowTuner`` implements them."""

    def measure(self) -> Measurement:
        """Score V with the model as it is."""

    def begin(self, head: Head) -> None:
        """Make the rows of a head the only trainable parameters."""

    def train_epoch(self) -> float:
        """Update the rows on D once and return the mean loss."""

    def scale(self, share: float) -> None:
        """Put the rows at a share of the way that the last epoch went; 1 is where it ended."""

    def restore(self) -> None:
        """Put the rows of the head back to what they were at ``begin``."""

    def finish(self) -> Measurement | None:
        """End the work on the head; its rows stay as they are.

        Return the state of V where it is not the last measured one, as the weights have rounded
        the rows.
        """


@dataclass(frozen=True)
class Limits:
    """When Algorithm 1 stops.

    Attributes:
        epochs: T, the maximum number of epochs of a head.
        rho: single head NAS below which a head is done.
        tau: model NAS below which tuning halts (Eq. 5); minus infinity without true positives.
        halting_share: with tau at minus infinity, tuning halts where ``yes_share`` is larger.
        answer: the word that tuning teaches, ``Yes`` or ``No``.
        line_search: whether an epoch that passes the halting point ends its head, and is shortened
            to where it just passes that point; not in the paper.
        by_model: whether a head ends and is cancelled after the first epoch that leaves the model
            NAS above its start, and otherwise stays; in the paper, both NAS decide after all of its
            epochs.
    """

    epochs: int
    rho: float
    tau: float
    halting_share: float
    answer: str = "Yes"
    line_search: bool = False
    by_model: bool = False

    def passed(self, now: Measurement) -> bool:
        """Whether a state that can be measured is past the halting point: tau, or the share."""
        return math.isfinite(now.model) and (now.model < self.tau or self.balanced(now))

    def balanced(self, now: Measurement, more: float = 0.0) -> bool:
        """Whether the share of Yes, above ``halting_share`` by ``more``, halts tuning in place of
        tau.
        """
        return self.tau == -math.inf and now.yes_share > self.halting_share + more


def incremental_tuning(
    heads: Sequence[Head],
    tuner: HeadTuner,
    limits: Limits,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[EpochRecord | HeadRecord]:
    """Tune heads one after the other, yielding each decision (Algorithm 1).

    The model is changed through ``tuner``. The numbers in the comments are the lines of
    Appendix F. As printed there, line 16 uses the beta of line 10 even where line 15 has just
    cancelled the update. The share of Yes, which is ours, is that of the state that
    stays.

    Args:
        heads: P, in the order of tuning.
        tuner: the model with D and V.
        limits: T, rho and tau.
        ended: asked after each record; where it returns True, the head at hand trains no further
            epoch, is kept or cancelled as it is, and is the last one.
    """
    state = tuner.measure()
    for head in heads:  # 1
        record, state = yield from _tune_head(head, tuner, state, limits, ended)
        yield record
        if record.halted or ended():
            break  # 17


def _tune_head(
    head: Head,
    tuner: HeadTuner,
    before: Measurement,
    limits: Limits,
    ended: Callable[[], bool],
) -> Generator[EpochRecord, None, tuple[HeadRecord, Measurement]]:
    """Lines 2 to 16 for one head; returns its record and the state of the model after it."""
    tuner.begin(head)  # 2
    now = before  # 3, 4
    stopped, epoch = "all epochs", 0
    last: Measurement | None = None  # 5: alpha and beta are infinite
    for epoch in range(1, limits.epochs + 1):  # 6
        loss = tuner.train_epoch()  # 7, 8
        if not math.isfinite(loss):
            stopped = "loss not finite"
            break
        now = tuner.measure()  # 9, 10
        if not (math.isfinite(now.model) and math.isfinite(now.of(head))):
            stopped = "NAS not finite"
            break
        yield EpochRecord(
            head.layer, head.head, epoch, loss, now.of(head), now.model, now.yes_share
        )
        reason = _early_stop(head, before, now, last, limits)
        if reason:  # 11
            stopped = reason
            break  # 12
        if ended():
            stopped = ENDED
            break
        last = now  # 13
    failed = stopped in ("loss not finite", "NAS not finite")
    scale = 1.0
    if limits.line_search and not failed and stopped != ABOVE and limits.passed(now):
        scale, now = _line_search(tuner, limits, now)
    cancelled = stopped if failed else _cancellation(head, before, now, limits)
    if cancelled:  # 14
        tuner.restore()  # 15
    written = tuner.finish()
    state = before if cancelled else now
    record = HeadRecord(
        layer=head.layer,
        head=head.head,
        alpha_before=before.of(head),
        beta_before=before.model,
        alpha=now.of(head),
        beta=now.model,
        yes_share=now.yes_share,
        epochs=epoch,
        stopped=stopped,
        kept=not cancelled,
        cancelled=cancelled,
        halted=_halting(state if failed else now, state, limits),
        scale=scale,
        yes_share_before=before.yes_share,
    )
    return record, written or state


def _line_search(tuner: HeadTuner, limits: Limits, now: Measurement) -> tuple[float, Measurement]:
    """Shorten the last epoch's update to where it just passes the halting point, by bisection.

    Args:
        tuner: the model after the epoch.
        limits: the halting point.
        now: its state.

    Returns:
        The share of the update that stays, and the state there.
    """
    short, long = 0.0, 1.0  # before the halting point, and past it
    for halving in range(MOST_HALVINGS):
        if halving >= HALVINGS and not limits.balanced(now, FAR):
            break
        middle = (short + long) / 2
        tuner.scale(middle)
        there = tuner.measure()
        if limits.passed(there):
            long, now = middle, there
        else:
            short = middle
    tuner.scale(long)
    return long, tuner.measure()


def _early_stop(
    head: Head, before: Measurement, now: Measurement, last: Measurement | None, limits: Limits
) -> str:
    """Line 11: why the epochs of a head end, or an empty text."""
    if limits.by_model and now.model > before.model:
        return ABOVE
    if last is not None and now.of(head) > last.of(head):
        return "head NAS rose"
    if now.of(head) < limits.rho:
        return "head NAS below rho"
    if last is not None and now.model > last.model:
        return "model NAS rose"
    if limits.line_search and now.model < limits.tau:
        return "model NAS below tau"
    return f"enough {limits.answer}" if limits.balanced(now) else ""


def _cancellation(head: Head, before: Measurement, now: Measurement, limits: Limits) -> str:
    """Line 14: why an update is cancelled, or an empty text."""
    reasons = []
    if now.of(head) > before.of(head) and not limits.by_model:
        reasons.append("head NAS above its start")
    if now.model > before.model:
        reasons.append(ABOVE)
    return ", ".join(reasons)


def _halting(now: Measurement, state: Measurement, limits: Limits) -> str:
    """Line 16: why all tuning ends, or an empty text."""
    if now.model < limits.tau:
        return "model NAS below tau"
    return f"enough {limits.answer}" if limits.balanced(state) else ""
