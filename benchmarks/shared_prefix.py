"""Scoring a probing set with NAS against plain forward passes over the whole prompts.

Ours is score_prompts: what the prompts of a batch share runs once, and the NAS is recorded. The
plain one runs every prompt from its first token on, in batches sorted by length too, and records
nothing. Times are medians of alternating runs. Checked: the probabilities are the same.

    python benchmarks/shared_prefix.py --samples 256
"""

from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from common import (
    alternate,
    fact_prompts,
    finish,
    machine,
    parser,
    relative_difference,
    require,
    table,
)
from nasalign.inference.forward import answer_logits
from nasalign.inference.prefix import shared_prefix
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.models.loading import load
from nasalign.nas.recorder import NasRecorder
from nasalign.prompts.builder import BinaryPrompt

TOLERANCE = 1e-3


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--samples", type=int, default=256)
    arguments = options.parse_args()
    model, tokenizer = load(arguments.model)
    prompts = fact_prompts(tokenizer, arguments.samples)
    results = alternate(
        {
            "plain": partial(_plain, model, prompts),
            "shared": partial(score_prompts, model, prompts),
        },
        arguments.repeats,
    )
    plain, shared = results["plain"], results["shared"]
    difference = relative_difference(plain.value.p_negative, shared.value.p_negative)
    require(difference < TOLERANCE, f"The probabilities differ by {difference:.1e}.")
    tokens = [len(prompt.token_ids) for prompt in prompts]
    result: dict[str, Any] = {
        "benchmark": "shared_prefix",
        "machine": machine(model.device),
        "model": arguments.model,
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "samples": len(prompts),
        "mean_tokens": sum(tokens) / len(tokens),
        "shared_tokens": shared_prefix(prompts),
        "seconds": {name: timing.median for name, timing in results.items()},
        "ratio": shared.median / plain.median,
    }
    cells = [f"{result['mean_tokens']:.1f}", result["shared_tokens"]]
    cells += [f"{plain.median:.2f}", f"{shared.median:.2f}", f"{result['ratio']:.2f}"]
    header = ["samples", "tokens", "of these shared", "plain, s", "shared, with NAS, s", "ratio"]
    finish(result, table(header, [[len(prompts), *cells]]), arguments.json)


def _plain(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> Scores:
    def logits(places: list[int], recorder: NasRecorder | None) -> torch.Tensor:
        return answer_logits(model, [prompts[place] for place in places], prefix=0)

    return score_prompts(model, prompts, record=False, logits_of=logits)


if __name__ == "__main__":
    main()
