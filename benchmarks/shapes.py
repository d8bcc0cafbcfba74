"""What the paper's models cost: random weights in their shapes, on one device, in bfloat16.

Measured: scoring with NAS; then, for a head at a quarter, half and three quarters of the depth,
what enters the layer, one epoch on D and one measurement of V, with RowTuner. From these follows
the time of a run of the paper's size without Prompt II: 2,000 questions scored, and 30 heads tuned
on 1,000 samples with 100 for validation, for 30 epochs a head at most, or the 5 that are likely.
Every head counts as computing what enters its layer from nothing. Checked: before an epoch, the NAS
from each layer on equals that of the whole model, to the precision of bfloat16; losses are finite.

    python benchmarks/shapes.py --shape llama3-8b
    python benchmarks/shapes.py --shape tiny --device cpu
"""

import argparse
import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from common import (
    finish,
    machine,
    parser,
    peak_memory,
    random_prompts,
    relative_difference,
    require,
    reset_peak,
    table,
    timed,
)
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from nasalign.alignment.training import RowTuner
from nasalign.config import load_preset
from nasalign.data.prompts import BinaryPrompt
from nasalign.nas.heads import Head
from nasalign.nas.scoring import score_prompts

TOLERANCE = 0.05
QUESTIONS, TUNING, VALIDATION, HEADS = 2000, 1000, 100, 30  # of the paper's run
EPOCHS = {"likely": 5, "most": 30}  # a head
POSITIONS = {"max_position_embeddings": 8192}

SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama3-8b": lambda: LlamaConfig(**_sizes(4096, 32, 32, 8, 14336, 128256), **POSITIONS),
    "qwen2-7b": lambda: Qwen2Config(**_sizes(3584, 28, 28, 4, 18944, 152064), **POSITIONS),
    "gemma-7b": lambda: GemmaConfig(
        **_sizes(3072, 28, 16, 16, 24576, 256000), **POSITIONS, head_dim=256
    ),
    "mistral-7b": lambda: MistralConfig(
        **_sizes(4096, 32, 32, 8, 14336, 32768), **POSITIONS, sliding_window=None
    ),
    "tiny": lambda: LlamaConfig(**_sizes(128, 8, 4, 2, 256, 1000), **POSITIONS),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--shape", choices=list(SHAPES), required=True)
    options.add_argument("--device", help="CUDA unless given")
    options.add_argument("--samples", type=int, default=128, help="size of D")
    options.add_argument("--validation", type=int, default=32, help="size of V")
    options.add_argument("--batch", type=int, help="prompts at once; by tokens unless given")
    arguments = options.parse_args()
    device = torch.device(_device(arguments.device))
    prompts = random_prompts(arguments.samples + arguments.validation, 1000)
    reset_peak(device)
    model = _build(arguments.shape, device)
    weights = peak_memory(device)
    scoring, nas = _scoring(model, prompts, arguments)
    rows = _tuning(model, prompts, nas, arguments)
    result = {
        "benchmark": "shapes",
        "machine": machine(device),
        "shape": arguments.shape,
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "samples": [arguments.samples, arguments.validation],
        "batch": arguments.batch,
        "scored_per_s": scoring,
        "heads": rows,
        "peak_mib": {"model": weights, "run": peak_memory(device)},
        "minutes": _estimate(scoring, rows, arguments),
    }
    finish(result, _lines(result), arguments.json)


def _device(asked: str | None) -> str:
    if asked:
        return asked
    require(
        torch.cuda.is_available(),
        "There is no GPU here, and the shapes of 7 to 8 billion parameters need one. With "
        "--device cpu they run on the processor, for hours and in some 20 GB; tiny is a quick try.",
    )
    return "cuda"


def _sizes(
    hidden: int, layers: int, heads: int, groups: int, intermediate: int, vocabulary: int
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
    }


def _build(shape: str, device: torch.device) -> PreTrainedModel:
    """A model with random weights, made where and in the type it runs: never a float32 copy."""
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=torch.bfloat16)
    return model.requires_grad_(False).eval()


def _scoring(
    model: PreTrainedModel, prompts: list[BinaryPrompt], arguments: argparse.Namespace
) -> tuple[float, torch.Tensor]:
    """Samples a second, and the NAS of V."""

    def score(part: list[BinaryPrompt]) -> torch.Tensor:
        return score_prompts(model, part, batch_size=arguments.batch).nas

    score(prompts)
    seconds = [timed(lambda: score(prompts))[0] for _ in range(arguments.repeats)]
    return len(prompts) / statistics.median(seconds), score(prompts[arguments.samples :])


def _tuning(
    model: PreTrainedModel,
    prompts: list[BinaryPrompt],
    nas: torch.Tensor,
    arguments: argparse.Namespace,
) -> list[dict[str, float]]:
    """Seconds of the parts of tuning, a row for each layer."""
    settings = load_preset("paper-7b").replace({"batch_size": arguments.batch or "none"})
    parts = prompts[: arguments.samples], prompts[arguments.samples :]
    tuner = RowTuner(model, *parts, settings)
    tuner.measure()
    layers = model.config.num_hidden_layers
    return [_layer(tuner, layers * part // 4, nas, arguments.repeats) for part in (1, 2, 3)]


def _layer(tuner: RowTuner, layer: int, nas: torch.Tensor, repeats: int) -> dict[str, float]:
    spent: dict[str, list[float]] = {"prepare": [], "epoch": [], "measure": []}
    for turn in range(repeats + 1):  # the first one warms up
        for replay in tuner.replays:
            replay.inputs = {}
        prepare, _ = timed(lambda: tuner.begin(Head(layer, 0, 0.0)))
        measure, _ = timed(tuner.measure)
        difference = relative_difference(tuner.latest[:, layer:], nas[:, layer:])
        require(
            difference < TOLERANCE,
            f"From layer {layer} on the NAS differs by {difference:.1e} from the whole model's.",
        )
        epoch, loss = timed(tuner.train_epoch)
        require(math.isfinite(loss), f"The loss at layer {layer} is {loss}.")
        tuner.restore()
        tuner.finish()
        if turn:
            for name, seconds in zip(spent, (prepare, epoch, measure), strict=True):
                spent[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in spent.items()}
    return {"layer": layer, **medians, "nas_difference": difference}


def _estimate(
    scoring: float, rows: list[dict[str, float]], arguments: argparse.Namespace
) -> dict[str, float]:
    """Minutes of a run of the paper's size; seconds grow with the samples."""
    mean = {
        name: statistics.mean(row[name] for row in rows) for name in ("prepare", "epoch", "measure")
    }
    both = arguments.samples + arguments.validation
    prepare = mean["prepare"] / both * (TUNING + VALIDATION)
    epoch = mean["epoch"] / arguments.samples * TUNING
    epoch += mean["measure"] / arguments.validation * VALIDATION
    minutes = {"scoring": QUESTIONS / scoring / 60}
    for name, epochs in EPOCHS.items():
        tuning = HEADS * (prepare + epochs * epoch) / 60
        minutes[f"tuning_{name}"] = tuning
        minutes[f"run_{name}"] = minutes["scoring"] + tuning
    return minutes


def _lines(result: dict[str, Any]) -> list[str]:
    minutes, peak = result["minutes"], result["peak_mib"]
    names = ("prepare", "epoch", "measure")
    rows = [[row["layer"], *(f"{row[name]:.3f}" for name in names)] for row in result["heads"]]
    lines = [
        f"{result['shape']}, {result['parameters'] / 1e9:.2f} billion parameters, on "
        f"{result['machine']['device']}: {result['scored_per_s']:.1f} samples scored a second.",
        f"Peak of memory {peak['run']:.0f} MiB, of that to build the model {peak['model']:.0f}.",
        "",
        *table(["layer", *(f"{name}, s" for name in names)], rows),
        "",
        f"A run of the paper's size: {minutes['scoring']:.1f} minutes of scoring, then tuning.",
    ]
    for name, epochs in EPOCHS.items():
        lines.append(f"{epochs:>2} epochs a head: {minutes[f'run_{name}']:.1f} minutes in all.")
    return lines


if __name__ == "__main__":
    main()
