"""What recording the NAS costs: time of a forward pass with the recorder, against one without.

Also against eager attention with ``output_attentions``, the plain way to the same figures. Both
ratios come from alternating runs in one process.

    python benchmarks/recorder_overhead.py --lengths 65 520
"""

import argparse
import time

import torch

from nasalign.models.loading import load
from nasalign.nas.recorder import NasRecorder, Positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--lengths", type=int, nargs="+", default=[65, 520])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model, _ = load(arguments.model)
    print("| tokens | plain, s | recorded / plain | eager with attentions / plain |")
    print("|---|---|---|---|")
    for length in arguments.lengths:
        ids = torch.randint(100, 1000, (arguments.batch, length), device=model.device)
        times: dict[str, list[float]] = {"plain": [], "recorded": [], "eager": []}
        for _ in range(arguments.repeats + 1):
            for name in times:
                times[name].append(_timed(name, model, ids))
        median = {
            name: sorted(values[1:])[arguments.repeats // 2] for name, values in times.items()
        }
        ratios = [median[name] / median["plain"] for name in ("recorded", "eager")]
        print(f"| {length} | {median['plain']:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


@torch.no_grad()
def _timed(name: str, model, ids: torch.Tensor) -> float:
    count, length = ids.shape
    at = [torch.full((count,), place) for place in (4, 6, length * 5 // 8, length)]
    if name == "eager":
        model.set_attn_implementation("eager")
    start = time.perf_counter()
    if name == "recorded":
        with NasRecorder(model) as recorder:
            recorder.expect(Positions(*(place.to(ids.device) for place in at)))
            model(ids, logits_to_keep=1, use_cache=False)
    else:
        model(ids, logits_to_keep=1, use_cache=False, output_attentions=name == "eager")
    if ids.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model.set_attn_implementation("sdpa")
    return seconds


if __name__ == "__main__":
    main()
