"""A tuning step with frozen weights of 8 and 4 bits against one in bfloat16."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from common import peak_memory, random_prompts, reset_peak, timed
from gpu_stages.stage import Place, Record
from model_shapes import WORDS, build, build_tokenizer
from nasalign.config import load_preset
from nasalign.errors import NasAlignError
from nasalign.models.loading import load
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner

LAYERS = 6
"""Layers of the model: enough for an error to add up, few enough to be written and read again."""


def run(place: Place) -> Iterator[Record]:
    """Yields a record a number of bits: cosine of the gradient with bfloat16's, seconds, memory."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a line a multiplication
    shape = "tiny" if place.tiny else "llama3-8b"
    with tempfile.TemporaryDirectory() as folder:
        model = build(shape, place.device, layers=LAYERS)
        model.save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
        del model
        exact: torch.Tensor | None = None
        for bits in (None, "8bit", "4bit"):
            record: Record = {"part": bits or "bfloat16", "shape": shape, "layers": LAYERS}
            try:
                gradient, figures = _step(Path(folder), bits, place)
            except (NasAlignError, ImportError) as error:
                yield record | {"refused": str(error)}
                continue
            if exact is None:
                exact = gradient
            cosine = torch.nn.functional.cosine_similarity(exact, gradient, dim=0)
            yield record | figures | {"cosine": float(cosine)}


def _step(folder: Path, bits: str | None, place: Place) -> tuple[torch.Tensor, Record]:
    """The gradient of the rows of a head in the second layer, on the CPU, and what it takes."""
    reset_peak(place.device)
    model, _ = load(str(folder), device=place.device.type, dtype="bfloat16", quantize=bits)
    loading = peak_memory(place.device)
    reset_peak(place.device)
    prompts = random_prompts(4 if place.tiny else 32, WORDS)
    settings = load_preset("paper").replace({"learning_rate": 1e-9})
    tuner = RowTuner(model, prompts, prompts[:1], settings)
    tuner.begin(Head(1, 0, 0.0))
    tuner.train_epoch()  # warms up
    seconds, _ = timed(tuner.train_epoch)  # one step
    rows = tuner.rows.parameters.values()
    gradient = torch.cat([row.grad.flatten().float().cpu() for row in rows if row.grad is not None])
    memory = {"peak_mib_loading": loading, "peak_mib": peak_memory(place.device)}
    figures = {"seconds_a_step": seconds, "gradient_norm": float(gradient.norm())}
    return gradient, memory | figures
