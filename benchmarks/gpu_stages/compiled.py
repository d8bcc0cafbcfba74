"""What torch.compile and CUDA graphs bring to the epochs of a head."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from common import peak_memory, random_prompts, reset_peak, timed
from gpu_stages.stage import Place, Record
from model_shapes import WORDS, build
from nasalign.config import load_preset
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner

LAYERS, TINY_LAYERS = 4, 3
WAYS: dict[str, dict[str, Any] | None] = {
    "eager": None,
    "compile": {"dynamic": True},
    "cuda graphs": {"dynamic": False, "mode": "reduce-overhead"},
}
TRIED: dict[str, dict[str, Any] | None] = {"eager": None, "compile": {"backend": "eager"}}
"""On a CPU the code is tried without a compiler."""


def run(place: Place) -> Iterator[Record]:
    """Yields a record a way of running the layers: seconds an epoch and to compile, the loss."""
    prompts = random_prompts(4 if place.tiny else 128, WORDS)
    layers = TINY_LAYERS if place.tiny else LAYERS
    torch._dynamo.config.recompile_limit = 64  # one function serves all layers and both passes
    settings = load_preset("paper").replace({"learning_rate": 1e-9})
    for name, options in (WAYS if place.on_cuda else TRIED).items():
        torch.compiler.reset()
        model = build("tiny" if place.tiny else "llama3-8b", place.device, layers=layers)
        tuner = RowTuner(model, prompts, prompts[:1], settings)
        layer = layers // 3
        tuner.begin(Head(layer, 0, 0.0))
        if options is not None:
            for module in model.base_model.layers[layer:]:
                module.compile(**options)
        record: Record = {"part": name, "layers": layers - layer, "prompts": len(prompts)}
        reset_peak(place.device)
        try:
            first, _ = timed(tuner.train_epoch)
            second, _ = timed(tuner.train_epoch)
            seconds, loss = timed(tuner.train_epoch)
        except Exception as error:  # whatever a compiler raises is a result here
            yield record | {"failed": f"{type(error).__name__}: {str(error)[:600]}"}
            continue
        assert math.isfinite(loss), loss
        figures = {"seconds_an_epoch": seconds, "seconds_of_the_first": first, "loss": loss}
        figures |= {"seconds_of_the_second": second, "peak_mib": peak_memory(place.device)}
        yield record | figures
