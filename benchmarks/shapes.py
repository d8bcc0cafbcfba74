"""What the paper's models cost on a device: random weights in their shapes, in bfloat16.

Measured, each as soon as it is known: the rate of matrix products; scoring with NAS against a plain
forward pass, with peak memory; scoring of prompts that begin alike; free answers; one head of
Algorithm 1 at the paper's sizes at a quarter, half and three quarters of the depth, and at half
against the plain loop (whole model, masked gradients, eager NAS); nasa+ likewise. From these
follows the time of a run of the paper's size. Checked: before an epoch, the NAS from each layer on
differs from that of the whole model by rounding alone; losses are finite, and of nasa+ those of the
plain loop.

    python benchmarks/shapes.py --shape llama3-8b
    python benchmarks/shapes.py --shape tiny --device cpu --tiny
"""

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from common import (
    alternate,
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
from machine_rate import matrix_shapes, multiply_rate
from model_shapes import SHAPES, WORDS, build, build_tokenizer
from nasalign.config import Settings, load_preset
from nasalign.inference.forward import answer_logits
from nasalign.inference.generation import generate
from nasalign.inference.prefix import shared_prefix
from nasalign.inference.scoring import score_prompts
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nas.recorder import NasRecorder
from nasalign.nasa.training import RowTuner
from nasalign.nasa_plus.attribution import attribution
from nasalign.nasa_plus.divergence import Answered
from nasalign.nasa_plus.joint_pairs import JointSamples, PromptPair
from nasalign.nasa_plus.joint_tuning import JointTuner
from nasalign.prompts.builder import BinaryPrompt
from plain_loops import PlainJointTuner, PlainTuner
from recorder_overhead import plain_pass, recorded_pass

TOLERANCE = 0.05  # of losses in bfloat16
EXACT = 1e-5
QUESTIONS, TUNING, VALIDATION, HEADS = 2000, 1000, 100, 30  # of the paper's run
PAIRS, EPOCHS_TOGETHER = 680, 2  # of nasa+ with the paper's preset
EPOCHS = {"likely": 5, "most": 30}  # a head
EVALUATED = 2 * 1000 * 2  # prompts: a right and a wrong answer a question, before and after
Record = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        lengths: tokens a prompt, of scoring.
        tokens: of a batch, of scoring.
        tuning: prompts of D.
        validation: prompts of V.
        pairs: pairs that nasa+ learns from, and a quarter as many held back.
        free: free answers.
        repeats: timed runs of each contender, after one that warms up.
    """

    lengths: tuple[int, ...] = (64, 512, 4096)
    tokens: int = 16384
    tuning: int = TUNING
    validation: int = VALIDATION
    pairs: int = 64
    free: int = 64
    repeats: int = 2


TINY = Sizes(lengths=(64, 128), tokens=256, tuning=8, validation=4, pairs=4, free=4, repeats=1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--shape", choices=list(SHAPES), required=True)
    options.add_argument("--device", help="CUDA unless given")
    options.add_argument("--tiny", action="store_true", help="small sizes, to try it out")
    options.set_defaults(repeats=Sizes.repeats)
    arguments = options.parse_args()
    sizes = replace(TINY if arguments.tiny else Sizes(), repeats=arguments.repeats)
    device = torch.device(_device(arguments.device))
    records = []
    for record in measure(arguments.shape, device, sizes):
        records.append(record)
        if not arguments.json:
            print(record, flush=True)
    result = {"benchmark": "shapes", "machine": machine(device), "records": records}
    finish(result, summary(records), arguments.json)


def _device(asked: str | None) -> str:
    if asked:
        return asked
    require(
        torch.cuda.is_available(),
        "There is no GPU here, and the shapes of 7 to 8 billion parameters need one. With "
        "--device cpu they run on the processor, for hours and in some 20 GB; tiny is a quick try.",
    )
    return "cuda"


def measure(shape: str, device: torch.device, sizes: Sizes) -> Iterator[Record]:
    """Yields what is measured of a shape, record by record; the last is the estimate.

    Args:
        shape: a key of ``SHAPES``.
        device: where it runs.
        sizes: how much is measured.
    """
    reset_peak(device)
    seconds, model = timed(lambda: build(shape, device))
    weights = peak_memory(device)
    shapes = matrix_shapes(model, min(sizes.tokens, 2048))
    rates = {"x".join(map(str, one)): multiply_rate(model, *one) for one in shapes}
    rate = max(rates.values())
    yield {
        "part": "model",
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype),
        "seconds_to_build": seconds,
        "model_mib": weights,
        "matrix_gflop_per_s": rates,
    }
    for length in sizes.lengths:
        yield _scoring(model, length, sizes, rate)
    prompts = random_prompts(sizes.tuning + sizes.validation, WORDS)
    found = []
    for part in (_shared, _answers, _nasa, _together):
        for record in part(model, prompts, sizes):
            found.append(record)
            yield record
    yield _estimate(found, sizes) | {"peak_mib": peak_memory(device)}


@torch.no_grad()
def _scoring(model: PreTrainedModel, length: int, sizes: Sizes, rate: float) -> Record:
    """A plain forward pass over random tokens, and the same with NAS: seconds and peak memory."""
    generator = torch.Generator().manual_seed(length)
    shape = (max(1, sizes.tokens // length), length)
    ids = torch.randint(10, WORDS, shape, generator=generator).to(model.device)
    contenders: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain_pass(model, ids),
        "recorded": lambda: recorded_pass(model, ids)[0],
    }
    results = alternate(contenders, sizes.repeats)
    plain, recorded = (results[name].median for name in contenders)
    record = {
        "part": "scoring",
        "batch": shape[0],
        "tokens": length,
        "seconds_plain": plain,
        "seconds_recorded": recorded,
        "ratio": recorded / plain,
        "tokens_per_s": shape[0] * length / recorded,
        "share_of_rate": 2 * _in_layers(model) * shape[0] * length / 1e9 / recorded / rate,
        "same_logits": torch.equal(results["plain"].value, results["recorded"].value),
    }
    for name, run in contenders.items():
        before = reset_peak(model.device)
        run()
        record[f"peak_mib_{name}"] = peak_memory(model.device)
        record[f"over_model_mib_{name}"] = record[f"peak_mib_{name}"] - before
    reset_peak(model.device)
    return record


def _in_layers(model: PreTrainedModel) -> int:
    """Weights that every token is multiplied by."""
    return sum(weight.numel() for weight in model.base_model.layers.parameters())


def _shared(model: PreTrainedModel, prompts: list[BinaryPrompt], sizes: Sizes) -> Iterator[Record]:
    """Prompts that begin alike, scored with NAS."""
    results = alternate({"ours": lambda: score_prompts(model, prompts).nas}, sizes.repeats)
    yield {"part": "probing", "samples_per_s": len(prompts) / results["ours"].median}


def _answers(model: PreTrainedModel, prompts: list[BinaryPrompt], sizes: Sizes) -> Iterator[Record]:
    """Free answers of 24 tokens (Prompt II), in the batches that the device takes."""
    tokenizer, few = build_tokenizer(), prompts[: 4 * sizes.free]
    seconds, _ = timed(lambda: generate(model, tokenizer, few, 24))
    yield {"part": "free answers", "answers_per_s": len(few) / seconds, "answers": len(few)}


def _nasa(model: PreTrainedModel, prompts: list[BinaryPrompt], sizes: Sizes) -> Iterator[Record]:
    """Seconds of the parts of tuning a head, at three depths; at half against the plain loop."""
    settings = load_preset("paper").replace({"learning_rate": 1e-9})
    parts = prompts[: sizes.tuning], prompts[sizes.tuning :]
    nas = score_prompts(model, parts[1]).nas
    noise = _noise(model, parts[1])
    tuner = RowTuner(model, *parts, settings)
    tuner.measure()
    layers = HeadGeometry.of(model).layers
    for quarter in (2, 1, 3):
        layer = layers * quarter // 4
        record = _head(tuner, layer, nas, noise, sizes.repeats)
        if quarter == 2:
            record |= _plain_head(model, parts, Head(layer, 0, 0.0), settings)
            ours = record["epoch"] + record["measure"]
            record["speed_up"] = (record["plain_epoch"] + record["plain_measure"]) / ours
        yield record


@torch.no_grad()
def _noise(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> float:
    """What rounding alone does to NAS: with the shared tokens run once, and with whole prompts."""
    prefix, found = shared_prefix(prompts), []
    for length in (prefix, 0):
        with NasRecorder(model) as recorder:
            answer_logits(model, prompts, recorder, prefix=length)
            found.append(recorder.nas)
    return relative_difference(*found)


def _head(tuner: RowTuner, layer: int, nas: torch.Tensor, noise: float, repeats: int) -> Record:
    spent: dict[str, list[float]] = {"prepare": [], "epoch": [], "measure": []}
    reset_peak(tuner.model.device)
    for turn in range(repeats + 1):  # the first one warms up
        for replay in tuner.replays:
            replay.inputs = {}
        prepare, _ = timed(lambda: tuner.begin(Head(layer, 0, 0.0)))
        measure, _ = timed(tuner.measure)
        assert tuner.latest is not None
        difference = relative_difference(tuner.latest[:, layer:], nas[:, layer:])
        require(
            difference <= 2 * noise + EXACT,
            f"From layer {layer} on the NAS differs by {difference:.1e} from the whole model's, "
            f"where rounding makes {noise:.1e}.",
        )
        epoch, loss = timed(tuner.train_epoch)
        require(math.isfinite(loss), f"The loss at layer {layer} is {loss}.")
        tuner.restore()
        tuner.finish()
        if turn:
            for name, seconds in zip(spent, (prepare, epoch, measure), strict=True):
                spent[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in spent.items()}
    return {
        "part": "nasa",
        "layer": layer,
        **medians,
        "epochs_per_s": 1 / (medians["epoch"] + medians["measure"]),
        "nas_difference": difference,
        "nas_noise": noise,
        "peak_mib": peak_memory(tuner.model.device),
    }


def _plain_head(
    model: PreTrainedModel,
    parts: tuple[list[BinaryPrompt], list[BinaryPrompt]],
    head: Head,
    settings: Settings,
) -> Record:
    """One epoch and one measurement of the plain loop, after a warm-up on a single batch."""
    few = parts[0][: settings.tuning_batch_size], parts[1][:1]
    for shares in (few, parts):
        tuner = PlainTuner(model, *shares, settings)
        tuner.begin(head)
        reset_peak(model.device)
        epoch, _ = timed(tuner.train_epoch)
        peak = peak_memory(model.device)
        measure, _ = timed(tuner.measure)
        tuner.restore()
        tuner.finish()
    return {"plain_epoch": epoch, "plain_measure": measure, "plain_peak_mib": peak}


def _together(
    model: PreTrainedModel, prompts: list[BinaryPrompt], sizes: Sizes
) -> Iterator[Record]:
    """nasa+: seconds of attribution and of an epoch a pair, against the plain loop."""
    geometry = HeadGeometry.of(model)
    pairs = [PromptPair(*two, "known") for two in zip(prompts[::2], prompts[1::2], strict=True)]
    pairs = pairs[: sizes.pairs + max(1, sizes.pairs // 4)]
    free = [Answered(prompt.token_ids[:40], 16) for prompt in prompts[: sizes.free]]
    samples = JointSamples(pairs[: sizes.pairs], pairs[sizes.pairs :], free)
    few = [(pair.right, pair.wrong) for pair in samples.tuning]
    attribution(model, few)  # warms up
    seconds, _ = timed(lambda: attribution(model, few))
    yield {"part": "attribution", "seconds_a_pair": seconds / len(few)}
    settings = load_preset("paper").replace({"joint_learning_rate": 1e-9})
    first = geometry.layers // 4
    places = sorted(geometry.places, key=lambda place: place[::-1])
    upper = [place for place in places if place[0] >= first]
    heads = [Head(*place, 0.0) for place in upper[: max(1, len(places) // 10)]]
    record: Record = {"part": "nasa+", "pairs": len(samples.tuning), "heads": len(heads)}
    losses: dict[str, float] = {}
    for name, kind in (("ours", JointTuner), ("plain", PlainJointTuner)):
        reset_peak(model.device)
        prepare, tuner = timed(partial(kind, model, samples, heads, settings))
        tuner.train_epoch()  # warms up
        epoch, losses[name] = timed(tuner.train_epoch)
        record |= {f"{name}_prepare": prepare, f"{name}_epoch": epoch}
        record[f"{name}_peak_mib"] = peak_memory(model.device)
        tuner.restore()
    require(
        math.isclose(losses["ours"], losses["plain"], rel_tol=TOLERANCE),
        f"The losses of nasa+ are {losses}.",
    )
    yield record | {"speed_up": record["plain_epoch"] / record["ours_epoch"]}


def _estimate(found: list[Record], sizes: Sizes) -> Record:
    """Minutes of a run of the paper's size; seconds grow with the samples.

    Every head counts as computing what enters its layer from nothing.
    """
    parts = {record["part"]: record for record in found}
    heads = [record for record in found if record["part"] == "nasa"]
    mean = {
        name: statistics.mean(head[name] for head in heads)
        for name in ("prepare", "epoch", "measure")
    }
    prepare = mean["prepare"] / (sizes.tuning + sizes.validation) * (TUNING + VALIDATION)
    epoch = mean["epoch"] / sizes.tuning * TUNING + mean["measure"] / sizes.validation * VALIDATION
    both = (QUESTIONS / parts["free answers"]["answers_per_s"]) / 60
    both += (QUESTIONS + EVALUATED) / parts["probing"]["samples_per_s"] / 60
    together = parts["nasa+"]
    a_pair = together["ours_epoch"] / together["pairs"]
    joint = EPOCHS_TOGETHER * PAIRS * a_pair + PAIRS * parts["attribution"]["seconds_a_pair"]
    record = {"part": "estimate", "minutes_probing_and_evaluation": both}
    for name, epochs in EPOCHS.items():
        record[f"minutes_nasa_{name}"] = both + HEADS * (prepare + epochs * epoch) / 60
    record["minutes_nasa_plus"] = both + (together["ours_prepare"] * 2 + joint) / 60
    return record


def summary(records: list[Record]) -> list[str]:
    """Returns the lines of a table: what was measured, and its figures."""
    rows = [
        [record["part"], ", ".join(f"{name} {_short(value)}" for name, value in record.items())]
        for record in records
    ]
    return table(["part", "figures"], rows)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
