"""What share of this machine's rate of matrix products the work attains, and where the rest goes.

The attainable rate is the best of torch.mm over the shapes of the model's own layers. Against it:
a plain forward pass over a batch of real prompts, scoring them with NAS (the shared prefix once),
and a tuning step with replay. The work of a pass is that of its matrix multiplications as they ran,
padding included: 2 x weights x tokens, 4 x H x D a layer for each pair of a query and a key before
it, and the output embedding for the last tokens. A backward pass adds the gradients of the
activations from the head's layer on: as much for the weights, five halves for the attention.
Checked: for every pass, PyTorch's own count of the multiplications by weights.

    python benchmarks/machine_rate.py --json
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from common import (
    alternate,
    fact_prompts,
    finish,
    machine,
    parser,
    require,
    table,
    timed,
)
from nasalign.config import load_preset
from nasalign.inference.forward import answer_logits
from nasalign.inference.prefix import shared_prefix
from nasalign.inference.scoring import score_prompts
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import load
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt

TOLERANCE = 0.02
TOP = 10  # operations in the table
TURN = 4  # multiplications timed together
BY_WEIGHTS = ("mm", "addmm")  # multiplications of a matrix by a weight


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a pass: by weights, and of the attention."""

    weights: float
    attention: float

    @property
    def total(self) -> float:
        """Both."""
        return self.weights + self.attention


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--layer", type=int, help="of the tuning step; the middle unless given")
    arguments = options.parse_args()
    model, tokenizer = load(arguments.model)
    prompts = fact_prompts(tokenizer, arguments.batch)
    layers = HeadGeometry.of(model).layers
    layer = layers // 2 if arguments.layer is None else arguments.layer
    rates = {
        "x".join(map(str, shape)): multiply_rate(model, *shape) for shape in matrix_shapes(model)
    }
    best = max(rates.values())
    tuner = _begun(model, prompts, layer)
    passes: dict[str, Callable[[], Any]] = {
        "plain forward pass": partial(_plain, model, prompts),
        "scoring with NAS": partial(score_prompts, model, prompts, batch_size=arguments.batch),
        "tuning step with replay": tuner.train_epoch,
    }
    works = _works(model, prompts, layer)
    for name, run in passes.items():
        _check(name, run, works[name])
    results = alternate(passes, arguments.repeats)
    tuner.restore()
    result = {
        "benchmark": "machine_rate",
        "machine": machine(model.device),
        "model": arguments.model,
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "batch": arguments.batch,
        "tuned_layer": layer,
        "multiply_gflop_per_s": rates,
        "best_gflop_per_s": best,
        "passes": {
            name: _attained(works[name], timing.median, best) for name, timing in results.items()
        },
        "scoring_operations": _operations(passes["scoring with NAS"], model.device.type),
    }
    finish(result, _lines(result), arguments.json)


def _begun(model: PreTrainedModel, prompts: list[BinaryPrompt], layer: int) -> RowTuner:
    """A tuner one epoch of which is one step."""
    sizes = {"batch_size": len(prompts), "tuning_batch_size": len(prompts)}
    settings = load_preset("fast").replace({**sizes, "learning_rate": 1e-9})
    tuner = RowTuner(model, prompts, prompts[:1], settings)
    tuner.begin(Head(layer, 0, 0.0))
    return tuner


def _attained(work: Work, seconds: float, best: float) -> dict[str, float]:
    gflop = work.total / 1e9
    rate = gflop / seconds
    return {"seconds": seconds, "gflop": gflop, "gflop_per_s": rate, "share": rate / best}


def matrix_shapes(model: PreTrainedModel, tokens: int = 2048) -> list[tuple[int, int, int]]:
    """Tokens x in x out of the distinct weights of a layer, and a square that fills the device."""
    modules = [m for m in model.base_model.modules() if isinstance(m, nn.Linear)]
    sizes = {(module.in_features, module.out_features) for module in modules}
    side = 8192 if model.device.type == "cuda" else tokens
    return [*((tokens, *size) for size in sorted(sizes)), (side, side, side)]


@torch.no_grad()
def multiply_rate(model: PreTrainedModel, rows: int, inner: int, columns: int) -> float:
    """Best GFLOP/s of five turns of multiplications in the model's type."""
    left = torch.randn(rows, inner, device=model.device, dtype=model.dtype)
    right = torch.randn(columns, inner, device=model.device, dtype=model.dtype).T
    seconds = [timed(lambda: [torch.mm(left, right) for _ in range(TURN)])[0] for _ in range(5)]
    return TURN * 2 * rows * inner * columns / min(seconds) / 1e9


@torch.no_grad()
def _plain(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> torch.Tensor:
    return answer_logits(model, prompts, prefix=0)


def _works(model: PreTrainedModel, prompts: list[BinaryPrompt], layer: int) -> dict[str, Work]:
    """The work of each pass over one batch, by the formula above."""
    geometry = HeadGeometry.of(model)
    head_size = max(own.head_size for own in geometry.attention if own)
    modules = dict(model.base_model.layers[0].named_modules())
    weights = {n: m.weight.numel() for n, m in modules.items() if isinstance(m, nn.Linear)}
    a_layer, count = sum(weights.values()), len(prompts)
    before_attention = sum(n for name, n in weights.items() if name[-6:] in _PROJECTIONS)
    output = 2 * model.get_output_embeddings().weight.numel()
    longest = max(len(prompt.token_ids) for prompt in prompts)
    prefix = shared_prefix(prompts)

    def attention(queries: int, keys: int) -> float:  # the last of the keys are the queries
        pairs = queries * (keys - queries) + queries * queries / 2
        return 4 * geometry.heads * head_size * pairs

    tokens = prefix + count * (longest - prefix)
    pairs = attention(prefix, prefix) + count * attention(longest - prefix, longest)
    above = geometry.layers - layer
    plain = Work(
        2 * a_layer * geometry.layers * count * longest + output * count,
        geometry.layers * count * attention(longest, longest),
    )
    scoring = Work(2 * a_layer * geometry.layers * tokens + output * count, geometry.layers * pairs)
    forward = 2 * a_layer * above * tokens + output * count
    # The head's own layer passes nothing on to what lies below its attention. Its rows are
    # multiplied by once more, and their gradients are as much again.
    rows = 2 * 2 * head_size * model.config.hidden_size * tokens
    backward = forward - 2 * before_attention * tokens + rows
    return {
        "plain forward pass": plain,
        "scoring with NAS": scoring,
        "tuning step with replay": Work(forward + rows + backward, above * pairs * 3.5),
    }


_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def _check(name: str, run: Callable[[], Any], work: Work) -> None:
    """Compares the formula with PyTorch's count, which lacks some kernels of attention."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    counted = sum(
        n for operation, n in counts.items() if str(operation).split(".")[-1] in BY_WEIGHTS
    )
    require(
        abs(work.weights - counted) < TOLERANCE * counted,
        f"{name}: the formula says {work.weights / 1e9:.2f} GFLOP, PyTorch {counted / 1e9:.2f}.",
    )


def _operations(run: Callable[[], Any], device: str) -> list[dict[str, Any]]:
    """The operations that take the most time of their own, as shares, and the rest."""
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device == "cuda" else []
    with profile(activities=activities) as profiler:
        run()
    field = f"self_{'device' if device == 'cuda' else 'cpu'}_time_total"
    spent = [(getattr(event, field), event.key, event.count) for event in profiler.key_averages()]
    total = sum(time for time, _, _ in spent)
    top = sorted(spent, reverse=True)[:TOP]
    rows = [{"name": name, "calls": calls, "share": time / total} for time, name, calls in top]
    rest = 1 - sum(row["share"] for row in rows)
    calls = sum(count for _, _, count in spent) - sum(row["calls"] for row in rows)
    return [*rows, {"name": "all others", "calls": calls, "share": rest}]


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [f"torch.mm attains {result['best_gflop_per_s']:.0f} GFLOP/s.", ""]
    rows = []
    for name, row in result["passes"].items():
        cells = [f"{row[key]:.2f}" for key in ("seconds", "gflop", "gflop_per_s", "share")]
        rows.append([name, *cells])
    lines += table(["pass", "seconds", "GFLOP", "GFLOP/s", "share of the rate"], rows)
    operations = [
        [row["name"], row["calls"], f"{row['share']:.3f}"] for row in result["scoring_operations"]
    ]
    return [*lines, "", *table(["operation while scoring", "calls", "share of time"], operations)]


if __name__ == "__main__":
    main()
