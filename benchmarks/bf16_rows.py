"""Does it matter in which dtype the tuned rows of a bfloat16 model stand in the forward pass?

    python benchmarks/bf16_rows.py                       # the embedded model, and a random one
    python benchmarks/bf16_rows.py --model random --epochs 30

At a rate of 1e-6 a step moves a weight by a small part of the distance to the next bfloat16
number, so that rows that are rounded before they are used stay as they were for many steps. One
head is tuned three times from the same bfloat16 weights, with as many steps an epoch as the paper
has (1,000 samples by 32): with rounded rows in the forward pass, with float32 rows in it, and with
the the whole model in float32. bfloat16 is emulated: every module's output is rounded.
Printed are the share of entries that differ in bfloat16, and the change of single head NAS and
model NAS of V, after each epoch; and when Algorithm 1 would have stopped.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import nasalign
from common import fact_prompts, finish, machine, parser, random_prompts, table
from nasalign.config import Settings
from nasalign.head_rows.rows import TunableRows
from nasalign.inference.scoring import score_prompts
from nasalign.models.head_layouts import RowSlice
from nasalign.nas.heads import Head, select_heads
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt

STEPS = 32
"""Steps an epoch, as of 1,000 samples in batches of 32."""
SHOWN = (1, 2, 5, 10, 20, 30)
RHO = 0.5


def rounded(values: Tensor) -> Tensor:
    """Values as bfloat16 has them, in float32; the gradient passes as it is."""
    return values + (values.detach().bfloat16().float() - values.detach())


def round_output(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tuple(map(rounded, output)) if isinstance(output, tuple) else rounded(output)


def emulate_bfloat16(model: PreTrainedModel) -> None:
    """Rounds what each module puts out: what bfloat16 does, at the speed of float32 on a CPU."""
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(round_output)


class Rows(TunableRows):
    """Rows of an emulated bfloat16 model; ``kind`` says how they stand in the forward pass."""

    kind = ""

    def _hook(self, where: RowSlice) -> Callable[..., Tensor]:
        def replace(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            rows = self.parameters[where]
            if self.kind == "rounded":
                rows = rounded(rows)
            fresh = functional.linear(inputs[0], rows)
            if self.kind != "float32 model":
                fresh = rounded(fresh)
            index = torch.arange(where.start, where.stop)
            return output.index_copy(-1, index, fresh)

        return replace


KINDS = ("rounded", "float32 rows", "float32 model")


def tune(
    model: PreTrainedModel,
    head: Head,
    tuning: list[BinaryPrompt],
    validation: list[BinaryPrompt],
    kind: str,
    epochs: int,
    rate: float,
) -> list[dict[str, float]]:
    """Tunes a head for all epochs; returns what is measured before, and after each epoch."""
    model = copy.deepcopy(model).requires_grad_(False)
    if kind != "float32 model":
        emulate_bfloat16(model)
    settings = Settings(epochs=30, learning_rate=rate, tuning_batch_size=1)
    tuner = RowTuner(model, tuning, validation, settings, [head])
    tuner.begin(head)
    tuner.rows.__class__, tuner.rows.kind = Rows, kind
    start = {where: rows.clone() for where, rows in tuner.rows.parameters.items()}
    rows = []
    for epoch in range(epochs + 1):
        loss = tuner.train_epoch() if epoch else math.nan
        with tuner.rows:
            now = tuner.measure()
        written = now
        if kind == "float32 rows" and (epoch in SHOWN or epoch == epochs):
            tuner.rows.kind = "rounded"
            with tuner.rows:
                written = tuner.measure()
            tuner.rows.kind = kind
        share = [
            (one.to(torch.bfloat16) != start[where].to(torch.bfloat16)).float().mean()
            for where, one in tuner.rows.parameters.items()
        ]
        moved = [(one - start[where]).abs().mean() for where, one in tuner.rows.parameters.items()]
        rows.append(
            {"epoch": epoch, "loss": loss, "alpha": now.of(head), "beta": now.model}
            | {"written_alpha": written.of(head), "written_beta": written.model}
            | {"changed": float(torch.stack(share).mean())}
            | {"moved": float(torch.stack(moved).mean())}
        )
    return rows


def decision(rows: list[dict[str, float]], rho: float) -> str:
    """What Algorithm 1 does with a head whose alpha and beta are these."""
    alpha = beta = math.inf
    why, last = "all epochs", rows[-1]
    for one in rows[1:]:
        stops = {
            "head NAS rose": one["alpha"] > alpha,
            "below rho": one["alpha"] < rho,
            "model NAS rose": one["beta"] > beta,
        }
        if any(stops.values()):
            why, last = next(name for name, holds in stops.items() if holds), one
            break
        alpha, beta = one["alpha"], one["beta"]
    rises = last["alpha"] > rows[0]["alpha"] or last["beta"] > rows[0]["beta"]
    return f"epoch {last['epoch']}, {why}, {'cancelled' if rises else 'kept'}"


def embedded(samples: int) -> tuple[PreTrainedModel, list[BinaryPrompt], list[BinaryPrompt]]:
    model, tokenizer = nasalign.load("smollm2-135m")
    model = model.bfloat16().float()  # the weights of the bfloat16 model
    prompts = fact_prompts(tokenizer, STEPS + samples)
    return model, prompts[:STEPS], prompts[STEPS:]


def random_model(samples: int) -> tuple[PreTrainedModel, list[BinaryPrompt], list[BinaryPrompt]]:
    """A Llama of two layers with heads of 128, its weights of the scale of 7-8B models."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
        initializer_range=0.02,
    )
    model = LlamaForCausalLM(config).bfloat16().float().eval()
    prompts = random_prompts(STEPS + samples, 2000)
    return model, prompts[:STEPS], prompts[STEPS:]


MODELS = {"embedded": embedded, "random": random_model}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", action="append", choices=list(MODELS))
    options.add_argument("--epochs", type=int, default=10, help="of the schedule's 30")
    options.add_argument("--validation", type=int, default=16, help="samples of V")
    options.add_argument("--heads", type=int, default=1, help="heads of highest NAS, each alone")
    options.add_argument("--from-layer", type=int, default=24, help="of the embedded model's heads")
    options.add_argument("--rate", type=float, default=1e-6, help="learning rate")
    given = options.parse_args()
    result: dict[str, Any] = {"machine": machine("cpu"), "runs": []}
    lines = []
    for name in given.model or list(MODELS):
        model, tuning, validation = MODELS[name](given.validation)
        nas = score_prompts(model, validation).nas
        found = select_heads(nas, k=nas[0].numel(), n=nas[0].numel())
        upper = [head for head in found if head.layer >= given.from_layer or name == "random"]
        for head in upper[: given.heads]:
            for kind in KINDS:
                rows = tune(model, head, tuning, validation, kind, given.epochs, given.rate)
                said = decision(rows, RHO if name == "embedded" else -math.inf)
                result["runs"].append(
                    {"model": name, "head": head[:2], "kind": kind, "decision": said, "rows": rows}
                )
                lines += report(f"{name}, layer {head.layer} head {head.head}, {kind}", said, rows)
                print("\n".join(lines), flush=True)
                lines.clear()
    finish(result, lines, given.json)


def report(title: str, said: str, rows: list[dict[str, float]]) -> list[str]:
    header = ["epoch", "entries changed", "mean move", "alpha", "beta"]
    header += ["alpha, rows rounded", "beta, rows rounded", "loss"]
    start = rows[0]
    cells = [
        (
            one["epoch"],
            f"{one['changed']:.1%}",
            f"{one['moved']:.2g}",
            f"{one['alpha'] - start['alpha']:+.5f}",
            f"{one['beta'] - start['beta']:+.5f}",
            f"{one['written_alpha'] - start['alpha']:+.5f}",
            f"{one['written_beta'] - start['beta']:+.5f}",
            f"{one['loss']:.4f}",
        )
        for one in rows
        if one["epoch"] == 0 or one["epoch"] in SHOWN
    ]
    first = f"alpha {start['alpha']:.4f}, beta {start['beta']:.4f} before"
    return ["", f"{title}: {said}; {first}", *table(header, cells)]


if __name__ == "__main__":
    main()
