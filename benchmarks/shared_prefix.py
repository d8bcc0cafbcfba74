"""Scoring questions with a right and a wrong answer, with NAS, against plain forward passes.

Plain: every prompt from its first token on, in batches sorted by length, without NAS. Batches: what
the prompts of a batch share before the first row of Eq. 1 runs once. Packed, which score_prompts
does by itself where it is exact: all that prompts share runs once. With ``--shots``, examples stand
before each question. Times are medians of alternating runs. Checked: the probabilities are the
same, and the NAS of the last two.

    python benchmarks/shared_prefix.py --samples 256
    python benchmarks/shared_prefix.py --samples 128 --shots 4
"""

from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from common import (
    alternate,
    finish,
    machine,
    parser,
    relative_difference,
    require,
    table,
)
from nasalign.data.records import BinaryExample, load_facts
from nasalign.inference.forward import answer_logits
from nasalign.inference.packed_batches import packed_batches
from nasalign.inference.prefix import shared_prefix
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.models.loading import load
from nasalign.nas.recorder import NasRecorder
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

TOLERANCE = 1e-3


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--samples", type=int, default=256)
    options.add_argument("--shots", type=int, default=0)
    arguments = options.parse_args()
    model, tokenizer = load(arguments.model)
    prompts = paired_prompts(tokenizer, arguments.samples, arguments.shots)
    require(
        packed_batches(model, prompts, record=True) is not None, "These prompts are not packed."
    )
    results = alternate(
        {
            "plain": partial(_plain, model, prompts),
            "batches": partial(_batches, model, prompts),
            "packed": partial(score_prompts, model, prompts),
        },
        arguments.repeats,
    )
    plain, batches, packed = (results[name] for name in ("plain", "batches", "packed"))
    for one in (batches, packed):
        difference = relative_difference(plain.value.p_negative, one.value.p_negative)
        require(difference < TOLERANCE, f"The probabilities differ by {difference:.1e}.")
    difference = relative_difference(batches.value.nas, packed.value.nas)
    require(difference < TOLERANCE, f"The NAS differs by {difference:.1e}.")
    tokens = [len(prompt.token_ids) for prompt in prompts]
    result: dict[str, Any] = {
        "benchmark": "shared_prefix",
        "machine": machine(model.device),
        "model": arguments.model,
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "samples": len(prompts),
        "mean_tokens": sum(tokens) / len(tokens),
        "shots": arguments.shots,
        "shared_tokens": shared_prefix(prompts),
        "seconds": {name: timing.median for name, timing in results.items()},
        "ratio": {
            "batches": batches.median / plain.median,
            "packed": packed.median / plain.median,
            "packed to batches": packed.median / batches.median,
        },
    }
    cells = [f"{result['mean_tokens']:.1f}", result["shared_tokens"]]
    cells += [f"{one.median:.2f}" for one in (plain, batches, packed)]
    cells.append(f"{result['ratio']['packed to batches']:.2f}")
    header = ["samples", "tokens", "of these shared by all", "plain, s", "batches, with NAS, s"]
    header += ["packed, with NAS, s", "packed to batches"]
    finish(result, table(header, [[len(prompts), *cells]]), arguments.json)


def paired_prompts(
    tokenizer: PreTrainedTokenizerBase, count: int, shots: int
) -> list[BinaryPrompt]:
    """The prompts of probing questions, each with its right answer and with that of the next."""
    questions = load_facts("probing")
    asked, shown = questions[: count // 2], questions[count // 2 :]
    wrong = [*asked[1:], asked[0]]
    builder = PromptBuilder(
        tokenizer,
        shots=[BinaryExample(one.question, True, one.answer) for one in shown[:shots]],
    )
    return [
        builder.binary(BinaryExample(one.question, source is one, source.answer))
        for one, other in zip(asked, wrong, strict=True)
        for source in (one, other)
    ]


def _batches(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> Scores:
    def logits(places: list[int], recorder: NasRecorder | None) -> torch.Tensor:
        return answer_logits(model, [prompts[place] for place in places], recorder)

    return score_prompts(model, prompts, logits_of=logits)


def _plain(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> Scores:
    def logits(places: list[int], recorder: NasRecorder | None) -> torch.Tensor:
        return answer_logits(model, [prompts[place] for place in places], prefix=0)

    return score_prompts(model, prompts, record=False, logits_of=logits)


if __name__ == "__main__":
    main()
