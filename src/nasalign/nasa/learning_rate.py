"""The learning rate that fits a model, found on one of its first heads before Algorithm 1 begins.

A step of AdamW moves each weight by about the rate, so what a rate does depends on the size of the
rows and on what the head does to the answer; both differ between models. A few steps are trained at
a small rate, their update is scaled, by scoring V alone, until the answers have moved by a set
share of what separates them, the mean log odds of V, and the rate is scaled with it. Training
raises the probability of the wanted word; that of the other may rise too, so what moves is the
wanted word's log probability or the log odds, whichever moves further. The rate is a share of the
size of the rows, their root mean square, so that it holds for heads of other layers too. A head
that moves the answers at no rate, as one of the first layer may, tells nothing: it is left out, and
the next is tried.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from nasalign.io.files import read_json, write_json
from nasalign.models import processes
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner
from nasalign.run import Run

FILE = "learning_rate.json"
MOVE = 0.2
"""Share of the mean log odds of V by which an epoch moves the answers (docs/log.md)."""
MOVE_IN_HASTE = 0.4
"""The same where a budget has lowered the number of heads or epochs: fewer have to go as far. Then
a single step is tried, too."""
LEAST_MOVE = 0.1
"""By how much it moves them at least, in nats, where the log odds begin near zero."""
HEADS = 4
"""Heads that are tried at most, in the order of tuning, until one of them moves the answers."""
STEPS = 3
"""Steps that are tried at most; the update of an epoch of more is as much longer."""
TRIED = 2.0**-10
"""Rate of these steps, as a share of the size of the rows."""
FACTORS = (2.0**-6, 2.0**7)
"""Least and greatest factor by which the update is scaled."""
UNFOUND = 2.0**-8
"""Rate, as a share of the size of the rows, where no head moves the answers far enough."""


def find_learning_rate(run: Run, tuner: RowTuner, heads: Sequence[Head]) -> Sequence[Head]:
    """Set the rate of a tuner, relative to the size of the rows; write ``learning_rate.json``.

    The model is as it was afterwards, to the bit. A resumed run reads the rate back.

    Args:
        run: says and notes what was found.
        tuner: with the untouched model.
        heads: those to be tuned, in their order.

    Returns:
        The heads without those before the one that moves the answers; all if none does.
    """

    def make() -> dict[str, Any]:
        tried = min(STEPS * tuner.settings.tuning_batch_size, len(tuner.tuning))
        total = tried + 4 * len(tuner.validation)  # seldom more
        start = tuner.log_probabilities()
        lowered = run.facts.get("budget", {}).get("given", {})
        haste = bool({"n", "epochs"} & set(lowered))
        found: dict[str, Any] = {}
        with run.timed("learning_rate"):
            for place, head in enumerate(heads[:HEADS]):
                with run.reporter.stage("Finding the learning rate", total) as done:
                    tuner.progress = done
                    found = processes.agreed(_searched(tuner, head, start, haste))
                found["heads_without"] = place
                if found["found"]:
                    break
        return found

    found = run.cached(FILE, make, write_json, read_json)
    tuner.relative_rate = found["relative"]
    run.facts["learning_rate"] = found
    run.say(_sentence(found))
    return heads[found["heads_without"] :] if found["found"] else heads


def _searched(tuner: RowTuner, head: Head, start: Tensor, haste: bool) -> dict[str, Any]:
    """The rate that was found, and by how much it moves the answers of V from ``start``, [2]."""
    move, most = (MOVE_IN_HASTE, 1) if haste else (MOVE, STEPS)
    log_odds = float(start[0] - start[1])
    target = max(move * abs(log_odds), LEAST_MOVE)
    epoch = -(-len(tuner.tuning) // tuner.settings.tuning_batch_size)
    steps = min(most, epoch)
    tuner.trial(head, steps, TRIED)
    sizes = tuner.rows.sizes()
    try:

        def moved(factor: float) -> float:
            tuner.scale(factor)
            wanted, other = (tuner.log_probabilities() - start).tolist()
            change = max(wanted, abs(wanted - other))
            return change if math.isfinite(change) else math.inf

        factor = _factor(moved, target)
    finally:
        tuner.put_back()
    relative = UNFOUND if factor is None else TRIED * factor * steps / epoch
    return {
        "relative": relative,
        "rates": [relative * size for size in sizes],
        "layer": head.layer,
        "head": head.head,
        "log_odds": log_odds,
        "move": target,
        "found": factor is not None,
    }


def _factor(moved: Callable[[float], float], target: float) -> float | None:
    """The factor at which an update moves the answers as far as wanted; None if none does.

    Factors are doubled or halved until two of them enclose the target; between these the move is
    taken as linear. Where neither the greatest factor nor a middle one goes so far, none is sought.
    """
    least, greatest = FACTORS
    short = long = UNFOUND / TRIED
    near = far = moved(long)
    if far < target and all(moved(one) < target for one in (greatest, greatest / 4)):
        return None
    while far < target and long < greatest:
        short, near = long, far
        long *= 2
        far = moved(long)
    while near >= target and short > least:
        long, far = short, near
        short /= 2
        near = moved(short)
    if near >= target:
        return short
    if not math.isfinite(far):  # too far to be measured
        return short
    return short + (long - short) * (target - near) / (far - near)


def _sentence(found: dict[str, Any]) -> str:
    rates = " and ".join(f"{rate:.2g}" for rate in found["rates"])
    what = (
        f"Learning rate: {found['relative']:.2g} of the size of a head's rows (root mean square), "
        f"so {rates} for those of layer {found['layer']}, head {found['head']}"
    )
    by = f"the held-back answers by {found['move']:.2f} nats"
    without = found["heads_without"]
    if not found["found"]:
        return f"{what}; of the {without + 1} heads tried, none moves {by} in an epoch at any rate."
    before = f" The {without} before it move them at no rate and are left out." if without else ""
    return f"{what}, at which an epoch moves {by}.{before}"
