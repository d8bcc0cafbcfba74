"""Does llama.cpp, given the base model and the adapter alone, answer as our aligned model does?

    pip install llama-cpp-python sentencepiece           # compiles llama.cpp
    LLAMA_CPP=path/to/llama.cpp python benchmarks/llama_cpp_adapter.py
    LLAMA_CPP=path/to/llama.cpp python benchmarks/llama_cpp_adapter.py --run runs/mine

LLAMA_CPP is a checkout of llama.cpp; that in the sources of llama-cpp-python will do
(vendor/llama.cpp). Its own scripts convert the base model and the adapter to GGUF files of float32,
and llama.cpp reads both. The adapter is that of a run of the embedded model, or one that is made
here: two heads of one key group and one head alone, in three layers each, so that the modules have
several ranks. Every prompt is a fact under Prompt I, and goes to both as the same tokens. Compared
are the log odds of Yes and No and the verdict, of the untouched model, with the adapter, and with
the same adapter in the form of the first versions, in which each module had a rank of its own by
``rank_pattern``: llama.cpp reads no patterns and scales the keys by alpha of the queries.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

import nasalign
from common import fact_prompts, finish, machine, parser, require, table
from nasalign.adapters.adapter import Adapter
from nasalign.adapters.adapter_checks import PREFIX, A, B, peft_config
from nasalign.adapters.adapter_file import read_adapter
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.inference.scoring import score_prompts
from nasalign.io.files import write_json
from nasalign.models.embedded import embedded_folder
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint
from nasalign.models.merging import CONFIG, FILE
from nasalign.prompts.builder import BinaryPrompt
from nasalign.run import adapter_folder

MODEL = "smollm2-135m"
HEADS = [(layer, head) for layer in (8, 15, 22) for head in (0, 1, 5)]  # 0 and 1 share their keys
SIZE = 1.0
"""Standard deviation of the change of a row over that of the row."""


def convert(script: str, *arguments: object) -> None:
    """Runs one of llama.cpp's own scripts; ends the benchmark with its last lines if it fails."""
    path = Path(os.environ.get("LLAMA_CPP", "llama.cpp")) / script
    require(path.is_file(), f"{path} is not there; set LLAMA_CPP to a checkout of llama.cpp.")
    command = [sys.executable, str(path), *map(str, arguments), "--outtype", "f32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
    require(done.returncode == 0, f"{script} failed: {last}")


def make_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Writes an adapter of a random change of some heads; leaves the model as it was."""
    geometry, base = HeadGeometry.of(model), fingerprint(model)
    slices = {where for head in HEADS for where in head_slices(geometry, *head, "group")}
    before = {where: read_weight_rows(model, where) for where in slices}
    generator = torch.Generator().manual_seed(0)
    for where in sorted(before, key=lambda one: (one.module, one.start)):
        rows = before[where]
        noise = torch.randn(rows.shape, generator=generator)
        write_rows(model, where, rows + SIZE * rows.std() * noise)
    adapter = Adapter.between(before, model, base)
    adapter.revert(model)
    adapter.save(folder, MODEL)


def with_patterns(adapter: Path, folder: Path) -> set[int]:
    """Writes an adapter as the first versions did; returns the ranks of its modules."""
    changes = read_adapter(adapter).changes
    ranks = {module: len(a) for module, (a, _) in changes.items()}
    tensors: dict[str, Tensor] = {}
    for module, (a, b) in changes.items():
        tensors |= {f"{PREFIX}{module}{A}": a.clone(), f"{PREFIX}{module}{B}": b.clone()}
    folder.mkdir()
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / FILE)
    config = peft_config(changes, max(ranks.values()), MODEL)
    write_json(folder / CONFIG, config | {"rank_pattern": ranks, "alpha_pattern": ranks})
    return set(ranks.values())


def ours(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Log odds of Yes and No by nasalign, [N]."""
    scores = score_prompts(model, prompts, record=False)
    return scores.p_positive.double().log() - scores.p_negative.double().log()


def theirs(gguf: Path, lora: Path | None, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Log odds of Yes and No by llama.cpp, [N]."""
    from llama_cpp import Llama  # compiled when it is installed

    path = str(lora) if lora else None
    threads, how = torch.get_num_threads(), {"logits_all": True, "verbose": False}
    llm = Llama(str(gguf), lora_path=path, n_ctx=512, n_threads=threads, **how)
    odds = []
    for prompt in prompts:
        llm.reset()
        llm.eval(list(prompt.token_ids))
        logits = torch.tensor(llm.scores[llm.n_tokens - 1], dtype=torch.float64)
        answers = prompt.answers
        yes, no = (logits[list(ids)].logsumexp(0) for ids in (answers.positive, answers.negative))
        odds.append(yes - no)
    llm.close()
    return torch.stack(odds)


def gaps(found: Tensor, expected: Tensor) -> tuple[float, float, int]:
    """Mean and largest gap of log odds [N], and how many verdicts are others."""
    gap = (found - expected).abs()
    return float(gap.mean()), float(gap.max()), int(((found > 0) != (expected > 0)).sum())


def given_options(description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line: an adapter, and how many facts are asked."""
    options = parser(description)
    options.add_argument("--run", type=Path, help="a run of align of the embedded model")
    options.add_argument("--prompts", type=int, default=30, help="facts that are asked")
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = given_options(__doc__, arguments)
    model, tokenizer = nasalign.load(MODEL, device="cpu", dtype="float32")
    prompts = fact_prompts(tokenizer, given.prompts)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        adapter = adapter_folder(given.run) if given.run else place / "adapter"
        if not given.run:
            make_adapter(model, adapter)
        ranks = with_patterns(adapter, place / "patterns")
        base = embedded_folder(MODEL)
        convert("convert_hf_to_gguf.py", base, "--outfile", place / "base.gguf")
        for name, folder in (("adapter", adapter), ("patterns", place / "patterns")):
            out = place / f"{name}.gguf"
            convert("convert_lora_to_gguf.py", folder, "--base", base, "--outfile", out)
        untouched = ours(model, prompts)
        nasalign.load_adapter(adapter, model).apply(model)
        aligned = ours(model, prompts)
        rows = []
        for name, lora, expected in (
            ("untouched", None, untouched),
            ("adapter", place / "adapter.gguf", aligned),
            ("adapter with rank_pattern", place / "patterns.gguf", aligned),
        ):
            found = theirs(place / "base.gguf", lora, prompts)
            mean, most, other = gaps(found, expected)
            rows.append((name, f"{mean:.5f}", f"{most:.5f}", other))
    moved = (aligned - untouched).abs()
    result = {
        "prompts": len(prompts),
        "ranks": sorted(ranks),
        "moved": {"mean": float(moved.mean()), "max": float(moved.max())},
        "verdicts_changed": int(((aligned > 0) != (untouched > 0)).sum()),
        "yes": {"untouched": int((untouched > 0).sum()), "aligned": int((aligned > 0).sum())},
        "gaps": {name: [float(mean), float(most), other] for name, mean, most, other in rows},
        "machine": machine("cpu"),
    }
    lines = [
        f"{len(prompts)} prompts; ranks {sorted(ranks)}; the adapter moves the log odds by "
        f"{moved.mean():.3f} on average, at most {moved.max():.3f}, and changes "
        f"{result['verdicts_changed']} verdicts.",
        *table(("llama.cpp against nasalign", "mean gap", "largest gap", "other verdicts"), rows),
    ]
    finish(result, lines, given.json)


if __name__ == "__main__":
    main()
