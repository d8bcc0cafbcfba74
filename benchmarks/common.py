"""What the benchmarks share: options, fair timing, memory, the machine's name, and the output."""

import argparse
import json
import os
import platform
import random
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from nasalign.data.binary import positive_example
from nasalign.data.records import Question, load_facts
from nasalign.prompts.builder import AnswerTokens, BinaryPrompt, PromptBuilder

MIB = 2**20


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that every benchmark has."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    options.add_argument("--repeats", type=int, default=3, help="timed runs of each contender")
    return options


def machine(device: torch.device | str) -> dict[str, Any]:
    """Says where the figures are from."""
    cpu_info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpu_info.read_text()) if cpu_info.exists() else []
    on_cuda = torch.device(device).type == "cuda"
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_cuda else str(device),
    }


def finish(result: Mapping[str, Any], lines: Sequence[str], as_json: bool) -> None:
    """Prints the result as one JSON object, or the lines for a reader."""
    print(json.dumps(result) if as_json else "\n".join(lines))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    cells = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in cells]


def require(holds: bool, sentence: str) -> None:
    """Ends the benchmark with a sentence where contenders disagree: their times mean nothing."""
    if not holds:
        raise SystemExit(sentence)


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Returns the largest difference of two tensors, as a share of the largest entry of either."""
    scale = max(float(one.abs().max()), float(other.abs().max()))
    return float((one - other).abs().max()) / scale if scale else 0.0


@dataclass
class Timed:
    """Seconds of a contender's runs, and what its last run returned."""

    seconds: list[float]
    value: Any = None

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds that a call takes, work on the accelerator included, and its value."""
    _synchronise()
    start = time.perf_counter()
    value = run()
    _synchronise()
    return time.perf_counter() - start, value


def alternate(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timed]:
    """Runs each contender once untimed, then all in turn, so that a slow minute hits all alike."""
    for run in contenders.values():
        run()
    results = {name: Timed([]) for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            seconds, results[name].value = timed(run)
            results[name].seconds.append(seconds)
    return results


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Returns b of ``seconds = a * size ** b``, by least squares of the logarithms."""
    logs = torch.tensor([sizes, seconds], dtype=torch.float64).log()
    centred = logs - logs.mean(dim=1, keepdim=True)
    return float((centred[0] * centred[1]).sum() / (centred[0] ** 2).sum())


def reset_peak(device: torch.device | str) -> float:
    """Begins a new peak of memory and returns what is in use now, in MiB."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # Linux: the peak of resident memory becomes what is resident now
    return peak_memory(device)


def peak_memory(device: torch.device | str) -> float:
    """Returns the peak of memory in MiB: allocated on CUDA, resident elsewhere.

    On Linux it is VmHWM, not ``ru_maxrss``, which a child process inherits from its parent.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024 / MIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def shuffled_facts() -> list[Question]:
    """Returns all facts, in an order shuffled once."""
    facts = load_facts()
    random.Random(0).shuffle(facts)
    return facts


def fact_prompts(tokenizer: PreTrainedTokenizerBase, count: int) -> list[BinaryPrompt]:
    """Returns Prompt I of real facts, whose answers are right, in an order shuffled once."""
    builder = PromptBuilder(tokenizer)
    return [builder.binary(positive_example(fact)) for fact in shuffled_facts()[:count]]


def random_prompts(
    count: int, vocabulary: int, prefix: int = 37, length: int = 65
) -> list[BinaryPrompt]:
    """Returns prompts of random tokens, lengths within 8 of ``length``, that begin alike."""
    source = random.Random(0)

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(source.randrange(10, vocabulary) for _ in range(number))

    shared = tokens(prefix)
    answers = AnswerTokens(positive=(1, 2), negative=(3, 4), target=1, other_target=3)
    lengths = [length + source.randint(-8, 8) for _ in range(count)]
    return [
        BinaryPrompt("", shared + tokens(size - prefix), prefix - 5, prefix - 3, prefix, answers)
        for size in lengths
    ]


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
