"""What activation replay saves in tuning, over all heads of a run of the embedded model.

For each head, in the order of the real run: Algorithm 1's epochs on D, each with a measurement of
V. Ours is RowTuner, the computing of what enters the layer counted in. The plain loop is what one
writes without it: AdamW on the layer's whole q and k weights, their gradients masked to the head's
rows, the whole model run on every batch, and the NAS of V from eager attention with
output_attentions. It has two courtesies: backward passes end at the layer, and the output embedding
sees the last tokens alone.

Both start a head from the same weights. Ours stay after it, as if every update were kept: that is
the worst case for replay, which then computes anew what enters the layers above. Times are medians
of alternating runs. Checked: the same loss, single head NAS and model NAS for every head.

    python benchmarks/tuning_speed.py --heads 2 --repeats 1
"""

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

from nasalign.alignment.rows import RowSlice, head_slices, read_rows, write_rows
from nasalign.alignment.training import RowTuner
from nasalign.config import Settings, load_preset
from nasalign.data.prompts import BinaryPrompt
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import load
from nasalign.nas.heads import Head

HEADS = [(17, 7), (18, 4), (21, 7), (13, 7), (21, 1), (16, 3), (22, 7), (17, 0)]  # as selected
TOLERANCE = 1e-4
Figures = tuple[float, float, float]  # loss, alpha, beta after the last epoch


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--heads", type=int, default=len(HEADS), help="the first of them")
    options.add_argument("--epochs", type=int, default=1, help="epochs a head")
    options.add_argument("--samples", type=int, default=96, help="size of D")
    options.add_argument("--validation", type=int, default=32, help="size of V")
    arguments = options.parse_args()
    model, tokenizer = load("smollm2-135m", dtype="float32")
    prompts = fact_prompts(tokenizer, arguments.samples + arguments.validation)
    parts = prompts[: arguments.samples], prompts[arguments.samples :]
    settings = load_preset("smollm2").replace({"epochs": arguments.epochs})
    tuner, plain = RowTuner(model, *parts, settings), PlainTuner(model, *parts, settings)
    tuner.measure()  # both know the state before the first head
    rows = []
    for place in HEADS[: arguments.heads]:
        rows.append(_compare(tuner, plain, Head(*place, 0.0), arguments.repeats))
        print(f"head {place} measured", file=sys.stderr, flush=True)
    total = {name: sum(row[name]["seconds"] for row in rows) for name in ("ours", "plain")}
    result = {
        "benchmark": "tuning_speed",
        "machine": machine(model.device),
        "repeats": arguments.repeats,
        "epochs": arguments.epochs,
        "samples": [len(part) for part in parts],
        "seconds": total,
        "speed_up": total["plain"] / total["ours"],
        "heads": rows,
    }
    finish(result, _lines(result), arguments.json)


class PlainTuner:
    """The plain loop, with the optimiser, schedule and order of D of ``RowTuner``."""

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: list[BinaryPrompt],
        validation: list[BinaryPrompt],
        settings: Settings,
    ) -> None:
        self.model, self.settings = model, settings
        self.tuning, self.validation = tuning, validation

    def run(self, head: Head) -> Figures:
        """Tunes a head and returns its figures; its weights stay tuned."""
        slices = head_slices(HeadGeometry.of(self.model), head.layer, head.head, "group")
        weights = {where: self.model.get_submodule(where.module).weight for where in slices}
        optimizer = torch.optim.AdamW(
            weights.values(), lr=self.settings.learning_rate, weight_decay=0.0
        )
        steps = self.settings.epochs * -(-len(self.tuning) // self.settings.tuning_batch_size)
        warm_up = round(self.settings.warmup_ratio * steps)
        schedule = get_cosine_schedule_with_warmup(optimizer, warm_up, steps)
        order = random.Random(f"{self.settings.seed}/{head.layer}/{head.head}")
        for weight in weights.values():
            weight.requires_grad_(True)
        loss, nas = 0.0, torch.empty(0)
        for _ in range(self.settings.epochs):
            loss = self._epoch(weights, optimizer, schedule, order)
            nas = self._nas()
        for weight in weights.values():
            weight.requires_grad_(False)
            weight.grad = None
        return loss, float(nas[head.layer, head.head]), float(nas.sum())

    def _epoch(
        self,
        weights: dict[RowSlice, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        order: random.Random,
    ) -> float:
        shuffled = list(self.tuning)
        order.shuffle(shuffled)
        size, total = self.settings.tuning_batch_size, 0.0
        for start in range(0, len(shuffled), size):
            batch = shuffled[start : start + size]
            ids, last = _padded(batch)
            hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
            logits = self.model.get_output_embeddings()(hidden[torch.arange(len(batch)), last])
            targets = torch.tensor([prompt.answers.target for prompt in batch])
            loss = functional.cross_entropy(logits, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for where, weight in weights.items():
                weight.grad[: where.start] = 0
                weight.grad[where.stop :] = 0
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        return total / len(shuffled)

    @torch.no_grad()
    def _nas(self) -> Tensor:
        """Single head NAS [L, H] of V by Eq. 1."""
        self.model.set_attn_implementation("eager")
        size, values = self.settings.tuning_batch_size, []
        for start in range(0, len(self.validation), size):
            batch = self.validation[start : start + size]
            ids, _ = _padded(batch)
            attentions = self.model(
                ids, logits_to_keep=1, use_cache=False, output_attentions=True
            ).attentions
            for row, prompt in enumerate(batch):
                pair = torch.stack([layer[row] for layer in attentions])  # [L, H, T, T]
                pair = pair[:, :, prompt.first_row : len(prompt.token_ids)]
                pair = pair[..., [prompt.positive_position, prompt.negative_position]]
                logs = pair.log()
                values.append((pair.sum(-1) * (logs[..., 1] - logs[..., 0])).sum(-1))
        self.model.set_attn_implementation("sdpa")
        return torch.stack(values).mean(dim=0)


def _padded(prompts: list[BinaryPrompt]) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right, where causal attention never looks, and the last places."""
    rows = [torch.tensor(prompt.token_ids) for prompt in prompts]
    last = torch.tensor([len(row) - 1 for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), last


def _compare(tuner: RowTuner, plain: PlainTuner, head: Head, repeats: int) -> dict[str, Any]:
    """Tunes a head both ways in turn, each time from the same weights; ours stay."""
    slices = head_slices(tuner.geometry, head.layer, head.head, "group")
    before = {where: read_rows(tuner.model, where) for where in slices}
    state = tuner.nas, [dict(replay.inputs) for replay in tuner.replays]
    parts: dict[str, list[float]] = {name: [] for name in ("prepare", "train", "measure", "plain")}
    after: dict[RowSlice, Tensor] = {}
    for _ in range(repeats):
        tuner.nas = state[0]
        for replay, inputs in zip(tuner.replays, state[1], strict=True):
            replay.inputs = dict(inputs)
        ours = _run_ours(tuner, head, parts)
        after = {where: read_rows(tuner.model, where) for where in slices}
        _write(tuner.model, before)
        seconds, theirs = timed(lambda: plain.run(head))
        parts["plain"].append(seconds)
        _write(tuner.model, before)
    _write(tuner.model, after)
    difference = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    require(
        difference < TOLERANCE,
        f"Head {head[:2]}: loss, alpha and beta are {ours} with replay and {theirs} without.",
    )
    total = [sum(turn) for turn in zip(*(parts[n] for n in parts if n != "plain"), strict=True)]
    medians = {name: statistics.median(seconds) for name, seconds in parts.items()}
    row: dict[str, Any] = {"layer": head.layer, "head": head.head, "difference": difference}
    row["ours"] = {"seconds": statistics.median(total)}
    row["ours"] |= {name: medians[name] for name in ("prepare", "train", "measure")}
    row["plain"] = {"seconds": medians["plain"]}
    row["speed_up"] = row["plain"]["seconds"] / row["ours"]["seconds"]
    row["figures"] = dict(zip(("loss", "alpha", "beta"), ours, strict=True))
    return row


def _run_ours(tuner: RowTuner, head: Head, parts: dict[str, list[float]]) -> Figures:
    """One head by RowTuner; appends the seconds of its parts."""
    spent = dict.fromkeys(("prepare", "train", "measure"), 0.0)

    def take(part: str, run: Callable[[], Any]) -> Any:
        seconds, value = timed(run)
        spent[part] += seconds
        return value

    take("prepare", lambda: tuner.begin(head))
    for _ in range(tuner.settings.epochs):
        loss = take("train", tuner.train_epoch)
        now = take("measure", tuner.measure)
    take("prepare", tuner.finish)
    for part, seconds in spent.items():
        parts[part].append(seconds)
    return loss, now.of(head), now.model


def _write(model: PreTrainedModel, rows: dict[RowSlice, Tensor]) -> None:
    for where, values in rows.items():
        write_rows(model, where, values)


def _lines(result: dict[str, Any]) -> list[str]:
    header = ["head", "plain, s", "replay, s", "prepare", "train", "measure", "speed-up"]
    rows = []
    for row in result["heads"]:
        ours = row["ours"]
        names = ("seconds", "prepare", "train", "measure")
        cells = [f"{row['plain']['seconds']:.2f}", *(f"{ours[name]:.2f}" for name in names)]
        rows.append([f"({row['layer']}, {row['head']})", *cells, f"{row['speed_up']:.2f}"])
    totals = [f"{result['seconds'][name]:.2f}" for name in ("plain", "ours")]
    rows.append(["all", *totals, "", "", "", f"{result['speed_up']:.2f}"])
    return table(header, rows)


if __name__ == "__main__":
    main()
