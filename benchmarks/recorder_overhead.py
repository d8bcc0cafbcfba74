"""What recording the NAS costs in time and in peak memory.

Compared with a plain forward pass (SDPA, the logits of the last token): the same pass with
NasRecorder, and eager attention with output_attentions, the plain way to the same figures. Times
are medians of alternating runs in one process. The peak of memory is taken in a process of its own
for each contender; "over the model" is what it is above the memory in use before the pass.
Checked: the recorder changes no logit, and its NAS is Eq. 1 of the eager attention weights.

    python benchmarks/recorder_overhead.py --lengths 64 512 2048 4096
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from common import (
    Timed,
    alternate,
    finish,
    machine,
    parser,
    peak_memory,
    relative_difference,
    require,
    reset_peak,
    table,
)
from nasalign.models.loading import load
from nasalign.nas.positions import Positions
from nasalign.nas.recorder import NasRecorder

TOKENS = 4096  # of a batch, unless --batch is given
CHECKED_LENGTH = 64
YES, NO = 4, 6  # columns of the answer words
# Attention weights of eager attention are rounded to the model's type, scores with them.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--lengths", type=int, nargs="+", default=[64, 512, 2048, 4096])
    options.add_argument("--batch", type=int, help=f"prompts; {TOKENS} / length unless given")
    options.add_argument("--eager-limit", type=int, default=2048, help="longest length for eager")
    options.add_argument("--measure", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.measure:
        print(json.dumps(_memory(arguments)))
        return
    memory = {length: _memories(arguments, length) for length in arguments.lengths}
    model, _ = load(arguments.model)
    difference = _check_equation(model)
    rows = []
    for length in arguments.lengths:
        rows.append(_row(model, arguments, length, memory[length]))
        if not arguments.json:
            print(f"{length} tokens measured", file=sys.stderr, flush=True)
    result = {
        "benchmark": "recorder_overhead",
        "machine": machine(model.device),
        "model": arguments.model,
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "nas_difference": difference,
        "rows": rows,
    }
    finish(result, _lines(rows), arguments.json)


def plain_pass(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model(ids, logits_to_keep=1, use_cache=False).logits


def recorded_pass(model: PreTrainedModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    with NasRecorder(model) as recorder:
        recorder.expect(_positions(ids))
        return plain_pass(model, ids), recorder.nas


def _eager(model: PreTrainedModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 1 from the attention weights; NAS [B, L, H] as from the recorder."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        output = model(ids, logits_to_keep=1, use_cache=False, output_attentions=True)
    finally:
        model.set_attn_implementation(implementation)
    first = int(_positions(ids).first_row[0])
    layers = []
    for weights in output.attentions:  # [B, H, T, T]
        pair = weights[:, :, first:, [YES, NO]].float()
        logs = pair.log()
        layers.append((pair.sum(dim=-1) * (logs[..., 1] - logs[..., 0])).sum(dim=-1))
    return output.logits, torch.stack(layers, dim=1)


CONTENDERS: dict[str, Callable[..., Any]] = {
    "plain": plain_pass,
    "recorded": recorded_pass,
    "eager": _eager,
}


def _positions(ids: Tensor) -> Positions:
    """The rows of the sum are the last three eighths, about their share in a short question."""
    count, length = ids.shape
    places = (YES, NO, length * 5 // 8, length)
    return Positions(*(torch.full((count,), place, device=ids.device) for place in places))


def _ids(model: PreTrainedModel, length: int, batch: int | None) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    shape = (batch or max(1, TOKENS // length), length)
    return torch.randint(100, 1000, shape, generator=generator).to(model.device)


@torch.no_grad()
def _check_equation(model: PreTrainedModel) -> float:
    ids = _ids(model, CHECKED_LENGTH, 4)
    difference = relative_difference(recorded_pass(model, ids)[1], _eager(model, ids)[1])
    require(
        difference < TOLERANCE[model.dtype],
        f"The NAS of the recorder and of eager attention differ by {difference:.1e}.",
    )
    return difference


@torch.no_grad()
def _row(
    model: PreTrainedModel, arguments: argparse.Namespace, length: int, memory: dict[str, Any]
) -> dict[str, Any]:
    """Times and checks one length; returns its figures, each by contender."""
    ids = _ids(model, length, arguments.batch)
    runs = {name: partial(CONTENDERS[name], model, ids) for name in memory}
    results: dict[str, Timed] = alternate(runs, arguments.repeats)
    same = torch.equal(results["plain"].value, results["recorded"].value[0])
    require(same, f"At {length} tokens the recorder changes the logits.")
    row = {"length": length, "batch": len(ids)}
    for name, result in results.items():
        row[name] = {
            "seconds": result.median,
            "time_ratio": result.median / results["plain"].median,
            "peak_mib": memory[name]["peak"],
            "peak_ratio": memory[name]["peak"] / memory["plain"]["peak"],
            "peak_over_model_mib": memory[name]["over_model"],
        }
    return row


def _memories(arguments: argparse.Namespace, length: int) -> dict[str, Any]:
    """Peak memory of each contender that runs at this length, each in a process of its own."""
    names = [name for name in CONTENDERS if name != "eager" or length <= arguments.eager_limit]
    command = [sys.executable, __file__, "--model", arguments.model, "--lengths", str(length)]
    if arguments.batch:
        command += ["--batch", str(arguments.batch)]
    taken = {}
    for name in names:
        done = subprocess.run(
            [*command, "--measure", name], stdout=subprocess.PIPE, text=True, check=False
        )
        require(done.returncode == 0, f"Measuring the memory of {name} at {length} tokens failed.")
        taken[name] = json.loads(done.stdout)
    return taken


@torch.no_grad()
def _memory(arguments: argparse.Namespace) -> dict[str, float]:
    model, _ = load(arguments.model)
    run = CONTENDERS[arguments.measure]
    run(model, _ids(model, 16, 1))  # what the first pass of a process sets up is no part of it
    before = reset_peak(model.device)
    run(model, _ids(model, arguments.lengths[0], arguments.batch))
    peak = peak_memory(model.device)
    return {"peak": peak, "over_model": peak - before}


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    header = ["tokens x batch"]
    header += ["plain, s", "recorded / plain", "eager / plain"]
    header += ["plain peak, MiB (over the model)", "recorded", "eager"]
    cells = []
    for row in rows:
        plain, recorded, eager = (row.get(name) for name in CONTENDERS)
        line = [f"{row['length']} x {row['batch']}", f"{plain['seconds']:.2f}"]
        line.append(f"{recorded['time_ratio']:.2f}")
        line.append(f"{eager['time_ratio']:.2f}" if eager else "not run")
        for part in (plain, recorded, eager):
            peak = f"{part['peak_mib']:.0f} ({part['peak_over_model_mib']:.0f})" if part else ""
            line.append(peak or "not run")
        cells.append(line)
    return table(header, cells)


if __name__ == "__main__":
    main()
