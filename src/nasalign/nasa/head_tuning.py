"""Selecting the heads to tune, and running Algorithm 1 on a model with progress and resume."""

import math
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any, cast

from nasalign.errors import DataError
from nasalign.io.files import append_jsonl, write_jsonl
from nasalign.nas.heads import ALIGNMENT, Head, head_counts, places, select_heads
from nasalign.nasa.algorithm import Limits, incremental_tuning
from nasalign.nasa.checkpoint import CheckpointedTuner
from nasalign.nasa.decisions import EpochRecord, HeadRecord, as_row, records_from_rows
from nasalign.nasa.learning_rate import find_learning_rate
from nasalign.nasa.probing import ProbingSet
from nasalign.nasa.training import RowTuner
from nasalign.progress import Progress
from nasalign.run import Run
from nasalign.session import Session

Record = EpochRecord | HeadRecord
OnRecord = Callable[[Any], Any]
"""Is called with each record of tuning; returning False ends tuning with the head at hand."""


def choose_heads(session: Session, probing: ProbingSet) -> list[Head]:
    """Select the heads to tune (Eq. 2-4, Section 4.2); write ``heads.json``.

    Raises:
        DataError: no head is in enough of the samples' lists.
    """
    settings, run = session.settings, session.run
    counts = head_counts(ALIGNMENT, settings.k, settings.n, len(places(probing.nas)))
    k, n = counts.k, counts.n
    heads = select_heads(probing.nas, k=k, n=n, consistency=settings.consistency)
    if not heads:
        raise DataError(
            f"No head is among the {k} of highest NAS in {settings.consistency:.0%} of the "
            "samples; raise k or lower consistency."
        )
    run.say(
        f"{len(heads)} heads are among the {k} of highest NAS in {settings.consistency:.0%} of the "
        f"samples (at most {n} are taken); the first is layer {heads[0].layer}, head "
        f"{heads[0].head} with a NAS of {heads[0].nas:.2f}."
    )
    run.write("heads.json", [head._asdict() for head in heads])
    return heads


def tune(
    session: Session,
    probing: ProbingSet,
    heads: Sequence[Head],
    on_record: OnRecord | None = None,
) -> list[Record]:
    """Run Algorithm 1, which changes the model; write ``tuning.jsonl`` as it goes.

    A resumed run skips the heads in its checkpoint. An interruption puts the rows of the head at
    hand back.

    Args:
        session: with the untouched model.
        probing: the probing set.
        heads: P, in the order of tuning.
        on_record: called with each new record; where it returns False, tuning ends with the head at
            hand, which trains no further epoch.
    """
    settings, run = session.settings, session.run
    limits = limits_of(session, probing)
    tuning, validation = probing.of("tuning"), probing.of("validation")
    rows = RowTuner(session.model, tuning, validation, settings, heads, balance=probing.balance)
    watched = rows.watched.count
    budget = _Budget(len(heads) * settings.epochs, len(tuning) + watched)
    total = watched + budget.epochs * budget.samples
    run.say(rows.replay_plan())
    if settings.learning_rate == "auto":
        heads = find_learning_rate(run, rows, heads)
    ended = Event()
    with run.stage("tuning", "Tuning head by head", total) as done:
        rows.progress = done
        checkpoint = run.folder / "checkpoint" if run.folder else None
        tuner = CheckpointedTuner(rows, checkpoint, run.say)
        history = _resumed(run, tuner, budget, settings.epochs, done)
        if history and cast(HeadRecord, history[-1]).halted:
            return history
        try:
            left = heads[tuner.heads_done :]
            for record in incremental_tuning(left, tuner, limits, ended.is_set):
                history.append(record)
                if run.folder:
                    append_jsonl(run.folder / "tuning.jsonl", as_row(record))
                if isinstance(record, HeadRecord):
                    tuner.head_is_done(history)
                    done(budget.spared(record, settings.epochs))
                    run.say(_sentence(record, limits.answer))
                if on_record and on_record(record) is False:
                    ended.set()
        except KeyboardInterrupt:
            tuner.abandon()
            raise
        run.facts["replay"] = rows.memory.describe()
    return history


def limits_of(session: Session, probing: ProbingSet) -> Limits:
    """Return when Algorithm 1 stops; note in the run at which value all tuning halts.

    With ``halting`` by balance, that is the share of Yes to right and wrong answers. Else it is tau
    (Eq. 5); with fewer true positives than ``min_true_positives`` that is minus infinity, and the
    share of V that is answered as wanted halts tuning instead.
    """
    settings, run = session.settings, session.run
    right, pairs = probing.count("TP"), len(probing.balance) // 2
    enough = right >= settings.min_true_positives and not pairs
    tau = probing.tau if enough else -math.inf
    answer = "Yes" if probing.direction == "negative" else "No"
    share, search = settings.halting_share, settings.line_search
    by_model = settings.cancellation == "model"
    limits = Limits(settings.epochs, settings.rho, tau, share, answer, search, by_model)
    run.facts["halting"] = {"kind": "tau", "value": tau, "answer": answer}
    if tau == -math.inf:
        run.facts["halting"] |= {"kind": "share", "value": limits.halting_share}
        run.facts["halting"]["of"] = "balance" if pairs else "V"
    if pairs:
        run.say(
            f"Tuning halts when the model says {answer} to more than {limits.halting_share:.0%} of "
            f"{pairs} right and {pairs} wrong answers that are held back."
        )
    elif tau == -math.inf:
        run.say(
            f"The model says {answer} to {right} of the answers it is probed with, too few to tell "
            "at which model NAS tuning should halt (tau in the paper's Eq. 5); instead, it halts "
            f"when the model says {answer} to more than {limits.halting_share:.0%} of the answers "
            "that are held back."
        )
    return limits


class _Budget:
    """The work that is left, for the progress bar: heads seldom need all of their epochs."""

    def __init__(self, epochs: int, samples: int) -> None:
        self.epochs, self.samples = epochs, samples  # epochs left, and samples of one

    def spared(self, record: HeadRecord, epochs: int) -> int:
        """Return the samples that a finished head has spared; after halting, all that are left."""
        self.epochs -= epochs
        return (epochs - record.epochs + (self.epochs if record.halted else 0)) * self.samples


def _resumed(
    run: Run, tuner: CheckpointedTuner, budget: _Budget, epochs: int, done: Progress
) -> list[Record]:
    """The records of the heads in the checkpoint; ``tuning.jsonl`` then holds these and no more."""
    if run.folder:
        write_jsonl(run.folder / "tuning.jsonl", tuner.history)
    if tuner.history:
        run.say(f"Resuming after {tuner.heads_done} heads.")
    budget.epochs -= tuner.heads_done * epochs
    done(tuner.heads_done * epochs * budget.samples)
    return records_from_rows(tuner.history)


def _sentence(record: HeadRecord, answer: str) -> str:
    """What became of a head, in one line."""
    fate = f"cancelled: {record.cancelled}" if record.cancelled else "kept"
    if record.scale < 1:
        fate = f"last epoch shortened to {record.scale:.2f} of its length, {fate}"
    halt = f"; tuning halts: {record.halted}" if record.halted else ""
    return (
        f"  layer {record.layer:>2}, head {record.head:>2}: {record.epochs} epoch(s), "
        f"{record.stopped}; head NAS {record.alpha_before:.2f} -> {record.alpha:.2f}, model NAS "
        f"{record.beta_before:.1f} -> {record.beta:.1f}, {record.yes_share:.0%} {answer}; "
        f"{fate}{halt}"
    )
