"""Prompt II in batches against one question at a time: questions a second.

Both decode greedily with a cache and stop at the first line end; the runs alternate, and rates are
of medians. Checked: the answers are the same, but for one in twenty, where two tokens are so nearly
as likely that the rounding of a batch decides.
"""

from functools import partial
from typing import Any

from common import alternate, finish, machine, parser, require
from nasalign.config import load_preset
from nasalign.data.binary import sample
from nasalign.data.records import load_facts
from nasalign.inference.generation import TokenIds, generate
from nasalign.models.loading import load
from nasalign.prompts.builder import PromptBuilder

SAME_SHARE = 0.95


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--questions", type=int, default=64)
    options.add_argument("--batch", type=int, default=32)
    arguments = options.parse_args()
    model, tokenizer = load(arguments.model)
    settings = load_preset()
    facts = sample(load_facts("development"), arguments.questions, 0)
    prompts = [TokenIds(PromptBuilder(tokenizer).parametric(fact)) for fact in facts]
    ask = partial(generate, model, tokenizer, prompts, settings.answer_tokens)
    contenders = {
        "one_at_a_time": partial(ask, batch_size=1),
        "batched": partial(ask, batch_size=arguments.batch),
    }
    results = alternate(contenders, arguments.repeats)
    one, batched = results.values()
    same = sum(a == b for a, b in zip(one.value.texts, batched.value.texts, strict=True))
    require(
        same >= SAME_SHARE * len(prompts),
        f"Only {same} of {len(prompts)} answers are the same in a batch as alone.",
    )
    result: dict[str, Any] = {
        "benchmark": "free_answers",
        "machine": machine(model.device),
        "model": arguments.model,
        "dtype": str(model.dtype),
        "repeats": arguments.repeats,
        "questions": len(prompts),
        "batch": arguments.batch,
        **{name: len(prompts) / timing.median for name, timing in results.items()},
        "ratio": one.median / batched.median,
        "same_answers": same,
    }
    lines = [
        f"one at a time    {result['one_at_a_time']:6.2f} questions a second",
        f"batches of {arguments.batch:<5} {result['batched']:6.2f} questions a second",
        f"ratio            {result['ratio']:6.2f}; {same} of {len(prompts)} answers are equal",
    ]
    finish(result, lines, arguments.json)


if __name__ == "__main__":
    main()
