"""How the cost of scoring with NAS grows: with the samples, with their length, with the layers.

One of the three grows while the others stay; the exponent b of ``seconds = a * size ** b`` is
fitted by least squares of the logarithms. All go through score_prompts. Times are medians of
alternating runs. Checked: a sample's NAS does not depend on how many are scored with it, nor on the
layers above; every length gives finite figures.

    python benchmarks/scaling.py --samples 64 128 256 --lengths 64 256 1024 --layers 5 15 30
"""

import copy
import random
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from common import (
    alternate,
    exponent,
    fact_prompts,
    finish,
    machine,
    parser,
    relative_difference,
    require,
    table,
)
from nasalign.data.records import BinaryExample, load_facts
from nasalign.inference.scoring import score_prompts
from nasalign.models.loading import load
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--samples", type=int, nargs="+", default=[64, 128, 256, 512])
    options.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    options.add_argument("--layers", type=int, nargs="+", default=[5, 10, 20, 30])
    options.add_argument("--batch", type=int, default=32, help="for samples and layers")
    options.add_argument("--long", type=int, default=8, help="prompts of each length, one batch")
    arguments = options.parse_args()
    model, tokenizer = load(arguments.model)
    prompts = fact_prompts(tokenizer, max(arguments.samples))
    sweeps = {
        "samples": _samples(model, prompts, arguments),
        "length": _lengths(model, tokenizer, arguments),
        "layers": _layers(model, prompts[: 2 * arguments.batch], arguments),
    }
    result = {
        "benchmark": "scaling",
        "machine": machine(model.device),
        "model": arguments.model,
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "batch": arguments.batch,
        "prompts_per_length": arguments.long,
        **sweeps,
    }
    rows = [
        [name, size, f"{seconds:.2f}", f"{sweep['exponent']:.2f}"]
        for name, sweep in sweeps.items()
        for size, seconds in zip(sweep["sizes"], sweep["seconds"], strict=True)
    ]
    finish(result, table(["grows", "size", "seconds", "exponent"], rows), arguments.json)


def _samples(model: PreTrainedModel, prompts: list[BinaryPrompt], arguments: Any) -> dict[str, Any]:
    results = alternate(
        {
            str(count): partial(score_prompts, model, prompts[:count], batch_size=arguments.batch)
            for count in arguments.samples
        },
        arguments.repeats,
    )
    scores = [result.value.nas[: min(arguments.samples)] for result in results.values()]
    for other in scores[1:]:
        _require_same(scores[0], other, model, "with more samples")
    return _sweep(arguments.samples, results)


def _lengths(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: Any
) -> dict[str, Any]:
    parts = {str(n): _long_prompts(tokenizer, arguments.long, n) for n in arguments.lengths}
    results = alternate(
        {
            name: partial(score_prompts, model, part, batch_size=arguments.long)
            for name, part in parts.items()
        },
        arguments.repeats,
    )
    for name, result in results.items():
        finite = bool(result.value.nas.isfinite().all())
        require(finite, f"At {name} tokens a NAS is not finite.")
    return _sweep([_mean_length(part) for part in parts.values()], results)


def _layers(model: PreTrainedModel, prompts: list[BinaryPrompt], arguments: Any) -> dict[str, Any]:
    models = {str(count): _first_layers(model, count) for count in arguments.layers}
    results = alternate(
        {
            name: partial(score_prompts, part, prompts, batch_size=arguments.batch)
            for name, part in models.items()
        },
        arguments.repeats,
    )
    lowest = min(arguments.layers)
    scores = [result.value.nas[:, :lowest] for result in results.values()]
    for other in scores[1:]:
        _require_same(scores[0], other, model, "with more layers")
    return _sweep(arguments.layers, results)


def _first_layers(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """A model of the same shape and weights that ends after some layers."""
    config = copy.deepcopy(model.config)
    require(count <= config.num_hidden_layers, f"The model has no {count} layers.")
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    with torch.device(model.device):
        shorter = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    shorter.load_state_dict(model.state_dict(), strict=False)
    return shorter.requires_grad_(False).eval()


def _long_prompts(
    tokenizer: PreTrainedTokenizerBase, count: int, length: int
) -> list[BinaryPrompt]:
    """Prompts with a context of shuffled facts, as close to ``length`` tokens as words allow."""
    source, builder, facts = random.Random(length), PromptBuilder(tokenizer), load_facts()
    words = [f"{fact.question} {fact.answer}." for fact in facts]
    prompts = []
    for fact in source.sample(facts, count):

        def render(context: str | None, fact: Any = fact) -> BinaryPrompt:
            return builder.binary(BinaryExample(fact.question, True, fact.answer, context))

        shuffled = " ".join(source.sample(words, min(len(words), length))).split()
        low, high = 0, min(len(shuffled), length)  # a word has one token at the least
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(render(" ".join(shuffled[:middle])).token_ids) <= length
            low, high = (middle, high) if fits else (low, middle - 1)
        prompts.append(render(" ".join(shuffled[:low]) or None))
    return prompts


def _mean_length(prompts: list[BinaryPrompt]) -> float:
    return round(sum(len(prompt.token_ids) for prompt in prompts) / len(prompts), 1)


def _require_same(one: torch.Tensor, other: torch.Tensor, model: Any, when: str) -> None:
    difference = relative_difference(one, other)
    require(
        difference < TOLERANCE[model.dtype],
        f"The NAS of a sample changes by {difference:.1e} {when}.",
    )


def _sweep(sizes: list[float], results: dict[str, Any]) -> dict[str, Any]:
    seconds = [result.median for result in results.values()]
    return {"sizes": sizes, "seconds": seconds, "exponent": exponent(sizes, seconds)}


if __name__ == "__main__":
    main()
