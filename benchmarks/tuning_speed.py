"""What activation replay and the shared prefix save in tuning, against the plain loop.

One epoch on D and one measurement of V for a head of each layer asked for, in three ways: the plain
loop runs every prompt whole, the second shares the prefix of a batch, the third also runs from the
head's layer on. Rounds alternate in one process; ratios are of medians. All three give the same
loss, to float tolerance, which is checked.

    python benchmarks/tuning_speed.py --layers 5 15 25
"""

import argparse
import time

import torch

from nasalign.alignment.replay import Replay
from nasalign.alignment.training import RowTuner
from nasalign.config import load_preset
from nasalign.data.binary import positive_example
from nasalign.data.prompts import PromptBuilder
from nasalign.data.qa import load_facts
from nasalign.models.loading import load
from nasalign.nas.forward import answer_logits
from nasalign.nas.heads import Head


class Whole(Replay):
    """Shares the prefix, and runs every layer."""

    def logits(self, places, layer, recorder=None):
        return super().logits(places, 0, recorder)

    def prepare(self, layer):
        pass


class Plain(Whole):
    """Runs every prompt whole."""

    def logits(self, places, layer, recorder=None):
        prompts = [self.prompts[place] for place in places]
        return answer_logits(self.model, prompts, recorder, prefix=0)


WAYS = {"plain": Plain, "shared prefix": Whole, "replay": Replay}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", type=int, nargs="+", default=[5, 15, 25])
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    model, tokenizer = load(arguments.model)
    builder = PromptBuilder(tokenizer)
    facts = load_facts("development")[: arguments.samples * 4 // 3]
    prompts = [builder.binary(positive_example(fact)) for fact in facts]
    tuning, validation = prompts[: arguments.samples], prompts[arguments.samples :]
    settings = load_preset("smollm2").replace({"epochs": arguments.repeats + 1})
    tuners = {}
    for name, way in WAYS.items():
        tuners[name] = RowTuner(model, tuning, validation, settings)
        tuners[name].replays = [
            way(model, part, settings.batch_size) for part in (tuning, validation)
        ]
    print("| layer | plain, s | shared prefix | replay | replay with its preparation |")
    print("|---|---|---|---|---|")
    for layer in arguments.layers:
        print(_row(tuners, layer, arguments.repeats), flush=True)


def _row(tuners: dict[str, RowTuner], layer: int, repeats: int) -> str:
    times: dict[str, list[float]] = {name: [] for name in tuners}
    preparation = 0.0
    for turn in range(repeats + 1):
        losses = []
        for name, tuner in tuners.items():
            start = time.perf_counter()
            tuner.begin(Head(layer, 0, 0.0))
            if name == "replay" and turn == 0:
                preparation = time.perf_counter() - start
            start = time.perf_counter()
            losses.append(tuner.train_epoch())
            tuner.measure()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
            tuner.restore()
            tuner.finish()
        assert max(losses) - min(losses) < 1e-3 * max(losses), losses
    median = {name: sorted(values[1:])[repeats // 2] for name, values in times.items()}
    plain = median["plain"]
    ratios = [median["shared prefix"] / plain, median["replay"] / plain]
    # a head takes two epochs at the least, and one preparation
    ratios.append((2 * median["replay"] + preparation) / (2 * plain))
    return f"| {layer} | {plain:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.2f} |"


if __name__ == "__main__":
    main()
