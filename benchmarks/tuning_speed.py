"""What activation replay saves in tuning: Algorithm 1 over the list of heads of a real run.

Both contenders tune a copy of the embedded model by the preset's settings, head after head, without
a halt. Ours is RowTuner, the computing of what enters the layers counted in. The plain loop is what
one writes without it: AdamW on the layer's whole q and k weights, their gradients masked to the
head's rows, the whole model run on every batch, and the NAS of V from eager attention with
output_attentions. Backward passes end at the layer. With --all-logits it computes the logits of all
tokens, as a trainer does that is given labels; without, those of the last token alone, as we do.

The two take turns epoch by epoch, so that a slow minute hits both. Checked: every figure and every
decision of the two is the same.

    python benchmarks/tuning_speed.py --heads 2
"""

import copy
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from common import fact_prompts, finish, machine, parser, require, table, timed
from nasalign.config import Settings, load_preset
from nasalign.models.loading import load
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import HeadTuner, Limits, Measurement, incremental_tuning
from nasalign.nasa.decisions import as_row
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt
from plain_loops import PlainTuner

HEADS = [(17, 7), (18, 4), (21, 7), (13, 7), (21, 1), (16, 3), (22, 7), (17, 0)]  # as selected
TOLERANCE = 1e-3  # three epochs of AdamW make more of a rounding
PARTS = ("prepare", "train", "measure")
NAMES = ("ours", "plain")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--heads", type=int, default=len(HEADS), help="the first of them")
    options.add_argument("--all-logits", action="store_true", help="as a trainer does")
    arguments = options.parse_args()
    settings = load_preset("fast").replace({"learning_rate": 4e-4, "line_search": False})
    model, tokenizer = load("smollm2-135m", dtype="float32")
    samples = settings.tuning_samples
    prompts = fact_prompts(tokenizer, samples + settings.validation_samples)
    parts = prompts[:samples], prompts[samples:]
    heads = [Head(*place, 0.0) for place in HEADS[: arguments.heads]]
    runs = [
        _run(model, parts, heads, settings, arguments.all_logits) for _ in range(arguments.repeats)
    ]
    result = {
        "benchmark": "tuning_speed",
        "machine": machine(model.device),
        "repeats": arguments.repeats,
        "all_logits": arguments.all_logits,
        "samples": [len(part) for part in parts],
        "heads": _medians(runs),
    }
    totals = [{name: sum(head[name] for head in run) for name in NAMES} for run in runs]
    result["seconds"] = {name: statistics.median(t[name] for t in totals) for name in NAMES}
    result["speed_up"] = statistics.median(total["plain"] / total["ours"] for total in totals)
    finish(result, _lines(result), arguments.json)


class Stopwatch:
    """A ``HeadTuner`` that counts the seconds of another, head by head."""

    def __init__(self, tuner: HeadTuner) -> None:
        self.tuner = tuner
        self.heads: list[dict[str, float]] = []

    def measure(self) -> Measurement:
        if not self.heads:  # before the first head
            return self.tuner.measure()
        return self._count("measure", self.tuner.measure)

    def begin(self, head: Head) -> None:
        self.heads.append(dict.fromkeys(PARTS, 0.0))
        self._count("prepare", lambda: self.tuner.begin(head))

    def train_epoch(self) -> float:
        return self._count("train", self.tuner.train_epoch)

    def scale(self, share: float) -> None:
        self._count("prepare", lambda: self.tuner.scale(share))

    def restore(self) -> None:
        self._count("prepare", self.tuner.restore)

    def finish(self) -> None:
        self._count("prepare", self.tuner.finish)

    def _count(self, part: str, work: Callable[[], Any]) -> Any:
        seconds, value = timed(work)
        self.heads[-1][part] += seconds
        return value


def _run(
    model: PreTrainedModel,
    parts: tuple[list[BinaryPrompt], list[BinaryPrompt]],
    heads: list[Head],
    settings: Settings,
    all_logits: bool,
) -> list[dict[str, Any]]:
    """Algorithm 1 by both, each on a copy of the model; returns a row for each head."""
    ours = Stopwatch(RowTuner(copy.deepcopy(model), *parts, settings, heads))
    plain = Stopwatch(PlainTuner(copy.deepcopy(model), *parts, settings, all_logits))
    # No halt: the whole of the list is tuned.
    limits = Limits(settings.epochs, settings.rho, tau=-math.inf, halting_share=1.0)
    histories = [incremental_tuning(heads, tuner, limits) for tuner in (ours, plain)]
    rows = []
    for records in zip(*histories, strict=True):
        mine, theirs = map(as_row, records)
        _require_same(mine, theirs)
        if mine["record"] == "head":
            row = {name: mine[name] for name in ("layer", "head", "epochs", "kept", "stopped")}
            row |= ours.heads[-1] | {"ours": sum(ours.heads[-1].values())}
            rows.append(row | {"plain": sum(plain.heads[-1].values())})
            print(f"layer {mine['layer']}, head {mine['head']} measured", file=sys.stderr)
    return rows


def _require_same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Ends the benchmark where a figure or a decision differs."""
    for name, value in theirs.items():
        same = mine[name] == value
        if isinstance(value, float):
            same = math.isclose(mine[name], value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        require(same, f"{name} is {mine[name]} with replay and {value} without: {theirs}.")


def _medians(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """For each head the median seconds of its parts over the runs, and the rest of its row."""
    rows = []
    for heads in zip(*runs, strict=True):
        names = (*PARTS, *NAMES)
        rows.append(heads[0] | {n: statistics.median(head[n] for head in heads) for n in names})
    return rows


def _lines(result: dict[str, Any]) -> list[str]:
    header = ["head", "epochs", "kept", "plain, s", "ours, s", *PARTS, "speed-up"]
    rows = []
    for row in result["heads"]:
        cells = [f"{row[name]:.2f}" for name in ("plain", "ours", *PARTS)]
        place = f"({row['layer']}, {row['head']})"
        kept = "yes" if row["kept"] else "no"
        rows.append([place, row["epochs"], kept, *cells, f"{row['plain'] / row['ours']:.2f}"])
    totals = [f"{result['seconds'][name]:.2f}" for name in ("plain", "ours")]
    rows.append(["all", "", "", *totals, *("" for _ in PARTS), f"{result['speed_up']:.2f}"])
    return table(header, rows)


if __name__ == "__main__":
    main()
