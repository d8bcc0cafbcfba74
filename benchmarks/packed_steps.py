"""Training steps with the prompts of a step packed in one row, against batches.

A step is a forward and a backward pass of a LoRA on queries and keys, over four pairs: a question
with its right and with a wrong answer. A batch runs what all of its prompts begin with once; a row
runs what any of them share once (``inference.packed``). Times are medians of alternating runs.
Checked: the gradients are the same.

    python benchmarks/packed_steps.py --steps 8
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from common import alternate, finish, machine, parser, relative_difference, require, table
from nasalign.data.records import load_facts
from nasalign.head_rows.low_rank import LowRankChange
from nasalign.inference.forward import answer_logits
from nasalign.inference.packed import packed, packed_logits, packs_exactly
from nasalign.models.loading import load
from nasalign.nasa_plus.kinds import pairs_of
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals.lora import queries_and_keys

PAIRS_A_STEP = 4
TOLERANCE = 1e-3
Pass = Callable[[PreTrainedModel, list[BinaryPrompt]], Tensor]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--steps", type=int, default=8)
    arguments = options.parse_args()
    model, tokenizer = load(arguments.model)
    model.requires_grad_(False)
    builder, facts = PromptBuilder(tokenizer), load_facts("probing")
    pairs = pairs_of(facts[: arguments.steps * PAIRS_A_STEP], facts, 0)
    prompts = [builder.binary(one) for pair in pairs for one in (pair.right, pair.wrong)]
    size = 2 * PAIRS_A_STEP
    steps = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    require(packs_exactly(model, prompts), "This model's prompts are not packed.")
    change = LowRankChange(model, queries_and_keys(model), seed=0)
    for up in change.up:  # at 0 nothing flows to the first factor
        torch.nn.init.normal_(up, std=0.01)
    results = alternate(
        {
            "batch": partial(_gradients, model, change, steps, answer_logits),
            "row": partial(_gradients, model, change, steps, packed_logits),
        },
        arguments.repeats,
    )
    batch, row = results["batch"], results["row"]
    difference = relative_difference(batch.value, row.value)
    require(difference < TOLERANCE, f"The gradients differ by {difference:.1e}.")
    tokens = sum(len(prompt.token_ids) for prompt in prompts) / len(steps)
    packs = [packed(step) for step in steps]
    in_rows = sum(len(pack.token_ids) for pack in packs if pack) / len(steps)
    result: dict[str, Any] = {
        "benchmark": "packed_steps",
        "machine": machine(model.device),
        "model": arguments.model,
        "repeats": arguments.repeats,
        "steps": len(steps),
        "tokens_a_step": tokens,
        "tokens_in_rows": in_rows,
        "seconds": {name: timing.median for name, timing in results.items()},
        "ratio": batch.median / row.median,
    }
    seconds = [f"{one.median / len(steps):.2f}" for one in (batch, row)]
    header = ["tokens a step", "in a row", "batch, s a step", "row, s a step", "ratio"]
    line = [f"{tokens:.0f}", f"{in_rows:.0f}", *seconds, f"{result['ratio']:.2f}"]
    finish(result, table(header, [line]), arguments.json)


def _gradients(
    model: PreTrainedModel, change: LowRankChange, steps: list[list[BinaryPrompt]], run: Pass
) -> Tensor:
    """The gradient over all steps, as one row of numbers."""
    change.zero_grad()
    with change.on(model):
        for step in steps:
            run(model, step).log_softmax(-1)[:, 0].sum().backward()
    return torch.cat([one.grad.flatten() for one in change.parameters() if one.grad is not None])


if __name__ == "__main__":
    main()
