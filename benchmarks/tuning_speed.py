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
import random
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from common import fact_prompts, finish, machine, parser, require, table, timed
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from nasalign.alignment.rows import head_slices
from nasalign.alignment.training import RowTuner
from nasalign.alignment.tuning import (
    HeadTuner,
    Limits,
    Measurement,
    as_row,
    incremental_tuning,
)
from nasalign.config import Settings, load_preset
from nasalign.data.prompts import BinaryPrompt
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import load
from nasalign.nas.heads import Head

HEADS = [(17, 7), (18, 4), (21, 7), (13, 7), (21, 1), (16, 3), (22, 7), (17, 0)]  # as selected
TOLERANCE = 1e-3  # three epochs of AdamW make more of a rounding
PARTS = ("prepare", "train", "measure")
NAMES = ("ours", "plain")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--heads", type=int, default=len(HEADS), help="the first of them")
    options.add_argument("--all-logits", action="store_true", help="as a trainer does")
    arguments = options.parse_args()
    settings = load_preset("smollm2")
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

    def restore(self) -> None:
        self._count("prepare", self.tuner.restore)

    def finish(self) -> None:
        self._count("prepare", self.tuner.finish)

    def _count(self, part: str, work: Callable[[], Any]) -> Any:
        seconds, value = timed(work)
        self.heads[-1][part] += seconds
        return value


class PlainTuner:
    """The plain loop, with the optimiser, schedule and order of D of ``RowTuner``."""

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: list[BinaryPrompt],
        validation: list[BinaryPrompt],
        settings: Settings,
        all_logits: bool,
    ) -> None:
        self.model, self.settings, self.all_logits = model, settings, all_logits
        self.tuning, self.validation = tuning, validation

    def begin(self, head: Head) -> None:
        settings = self.settings
        slices = head_slices(HeadGeometry.of(self.model), head.layer, head.head, settings.k_scope)
        self.weights = {where: self.model.get_submodule(where.module).weight for where in slices}
        self.before = {where: weight.detach().clone() for where, weight in self.weights.items()}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=settings.learning_rate, weight_decay=0.0
        )
        steps = settings.epochs * -(-len(self.tuning) // settings.tuning_batch_size)
        warm_up = round(settings.warmup_ratio * steps)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warm_up, steps)
        self.order = random.Random(f"{settings.seed}/{head.layer}/{head.head}")

    def restore(self) -> None:
        with torch.no_grad():
            for where, weight in self.weights.items():
                weight.copy_(self.before[where])

    def finish(self) -> None:
        del self.optimizer, self.schedule

    def train_epoch(self) -> float:
        shuffled = list(self.tuning)
        self.order.shuffle(shuffled)
        size, total = self.settings.tuning_batch_size, 0.0
        for weight in self.weights.values():
            weight.requires_grad_(True)
        for start in range(0, len(shuffled), size):
            batch = shuffled[start : start + size]
            ids, last = _padded(batch)
            hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
            embed = self.model.get_output_embeddings()
            rows = torch.arange(len(batch))
            logits = embed(hidden)[rows, last] if self.all_logits else embed(hidden[rows, last])
            targets = torch.tensor([prompt.answers.target for prompt in batch])
            loss = functional.cross_entropy(logits, targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for where, weight in self.weights.items():
                weight.grad[: where.start] = 0
                weight.grad[where.stop :] = 0
            self.optimizer.step()
            self.schedule.step()
            total += float(loss.detach()) * len(batch)
        for weight in self.weights.values():
            weight.requires_grad_(False)
        return total / len(shuffled)

    @torch.no_grad()
    def measure(self) -> Measurement:
        """Single head NAS [L, H] of V by Eq. 1, and the share that is affirmed."""
        self.model.set_attn_implementation("eager")
        size, values, affirmed = self.settings.tuning_batch_size, [], 0
        for start in range(0, len(self.validation), size):
            batch = self.validation[start : start + size]
            ids, last = _padded(batch)
            output = self.model.base_model(ids, use_cache=False, output_attentions=True)
            hidden = output.last_hidden_state[torch.arange(len(batch)), last]
            shares = self.model.get_output_embeddings()(hidden).softmax(dim=-1)
            for row, prompt in enumerate(batch):
                answers = prompt.answers
                positive = shares[row, list(answers.positive)].sum()
                affirmed += bool(positive > shares[row, list(answers.negative)].sum())
                pair = torch.stack([layer[row] for layer in output.attentions])  # [L, H, T, T]
                pair = pair[:, :, prompt.first_row : len(prompt.token_ids)]
                pair = pair[..., [prompt.positive_position, prompt.negative_position]]
                logs = pair.log()
                values.append((pair.sum(-1) * (logs[..., 1] - logs[..., 0])).sum(-1))
        self.model.set_attn_implementation("sdpa")
        return Measurement(torch.stack(values).mean(dim=0), affirmed / len(self.validation))


def _padded(prompts: list[BinaryPrompt]) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right, where causal attention never looks, and the last places."""
    rows = [torch.tensor(prompt.token_ids) for prompt in prompts]
    last = torch.tensor([len(row) - 1 for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), last


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
