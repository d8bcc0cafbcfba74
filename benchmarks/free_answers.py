"""Prompt II in batches against one question at a time: samples a second, and the same answers.

Both decode greedily with a cache and stop at the first line end; the runs alternate.
"""

import argparse
import json
import statistics
import time

from nasalign.config import load_preset, preset_name
from nasalign.data.binary import sample
from nasalign.data.prompts import PromptBuilder
from nasalign.data.qa import load_facts
from nasalign.models.loading import load
from nasalign.nas.generation import TokenIds, generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()

    model, tokenizer = load(arguments.model)
    settings = load_preset(preset_name(model.num_parameters()))
    builder = PromptBuilder(tokenizer)
    facts = sample(load_facts("development"), arguments.questions, 0)
    prompts = [TokenIds(builder.parametric(fact)) for fact in facts]
    seconds: dict[int, list[float]] = {1: [], arguments.batch: []}
    texts: dict[int, list[str]] = {}
    for _ in range(arguments.repeats):
        for size, taken in seconds.items():
            start = time.perf_counter()
            answers = generate(model, tokenizer, prompts, settings.answer_tokens, batch_size=size)
            taken.append(time.perf_counter() - start)
            texts[size] = answers.texts
    rates = {size: len(prompts) / statistics.median(taken) for size, taken in seconds.items()}
    same = sum(a == b for a, b in zip(*texts.values(), strict=True))
    result = {
        "questions": len(prompts),
        "one_at_a_time": rates[1],
        "batched": rates[arguments.batch],
        "ratio": rates[arguments.batch] / rates[1],
        "same_answers": same,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"one at a time    {rates[1]:6.2f} questions a second")
    print(f"batches of {arguments.batch:<5} {rates[arguments.batch]:6.2f} questions a second")
    print(f"ratio            {result['ratio']:6.2f}; {same} of {len(prompts)} answers are equal")


if __name__ == "__main__":
    main()
