"""Does llama.cpp's server, given the base and an adapter as GGUF files, say what we say?

    LLAMA_CPP=path/to/llama.cpp python benchmarks/llama_cpp_server.py
    LLAMA_CPP=path/to/llama.cpp python benchmarks/llama_cpp_server.py --run runs/mine

LLAMA_CPP is a checkout of llama.cpp with its server built (build/bin/llama-server); the sources of
llama-cpp-python have one (vendor/llama.cpp). Its script converts the base model, which needs
`pip install sentencepiece`; the adapter is exported by `nasalign export --format gguf-adapter`,
once as it is and once with `--activated`. The adapter is that of a run of the embedded model, or
one that is made here (``llama_cpp_adapter``). Facts are asked under Prompt I by
/v1/chat/completions, and the log odds of Yes and No are taken from the likeliest tokens. Questions
under Prompt II are asked in turn with them: with an activated adapter they are to be answered as
without one.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import torch
from torch import Tensor
from transformers import PreTrainedModel

import nasalign
from common import finish, machine, require, shuffled_facts, table
from llama_cpp_adapter import MODEL, convert, gaps, given_options, make_adapter, ours
from nasalign.adapters.activated import activated_logits, invocation_start
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.data.binary import positive_example
from nasalign.models.embedded import embedded_folder
from nasalign.nasa_plus.attribution import answer_log_probabilities
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.prompts.prompt_one import prompt_1
from nasalign.prompts.wordings import PARAMETRIC_INSTRUCTION
from nasalign.run import adapter_folder
from serve_load import on_free_port

LIKELIEST = 2000
"""Tokens whose probabilities the server is asked for."""
FREE_TOKENS = 16


def llama_server(base: Path, lora: Path | None) -> Any:
    """Starts the server of a base with an adapter on a free port."""
    program = Path(os.environ.get("LLAMA_CPP", "llama.cpp")) / "build" / "bin" / "llama-server"
    require(program.is_file(), f"{program} is not there; build llama-server in LLAMA_CPP.")
    command = [str(program), "-m", str(base), "--ctx-size", "1024"]
    command += ["--threads", str(torch.get_num_threads())]
    return on_free_port([*command, *(["--lora", str(lora)] if lora else [])])


def asked(address: str, content: str, **more: Any) -> dict[str, Any]:
    """The answer to a message, greedily."""
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, **more}
    response = httpx.post(f"{address}/chat/completions", json=body, timeout=300, trust_env=False)
    require(response.status_code == 200, response.text)
    return response.json()["choices"][0]


def log_odds(address: str, content: str, prompt: BinaryPrompt) -> float:
    """Log odds of Yes and No over their spellings among the likeliest tokens."""
    said = asked(address, content, max_tokens=1, logprobs=True, top_logprobs=LIKELIEST)
    found = {one["id"]: one["logprob"] for one in said["logprobs"]["content"][0]["top_logprobs"]}
    answers = prompt.answers
    yes, no = (
        torch.tensor([found[token] for token in ids if token in found]).logsumexp(0)
        for ids in (answers.positive, answers.negative)
    )
    return float(yes - no)


def free_answer(address: str, question: str) -> str:
    """What is answered freely, under Prompt II."""
    content = f"{PARAMETRIC_INSTRUCTION} Question: {question} Answer:"
    return asked(address, content, max_tokens=FREE_TOKENS)["message"]["content"]


@torch.no_grad()
def expected_odds(
    model: PreTrainedModel, folder: Path, prompts: Sequence[BinaryPrompt], start: int
) -> dict[str, Tensor]:
    """Log odds by nasalign, [N] each: untouched, with the adapter, and with it from a token on."""
    adapter = nasalign.load_adapter(folder, model)
    return {
        "untouched": ours(model, prompts),
        **{
            name: log_odds_of(activated_logits(model, adapter, prompts, place), prompts)
            for name, place in (("adapter", 0), ("activated", start))
        },
    }


def log_odds_of(logits: Tensor, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Log odds of Yes and No [N] by the logits after prompts."""
    said = answer_log_probabilities(logits, prompts).double()
    return said[:, 0] - said[:, 1]


def main(arguments: Sequence[str] | None = None) -> None:
    given = given_options(__doc__, arguments)
    model, tokenizer = nasalign.load(MODEL, device="cpu", dtype="float32")
    builder, facts = PromptBuilder(tokenizer), shuffled_facts()[: given.prompts]
    examples = [positive_example(fact) for fact in facts]
    prompts = [builder.binary(one) for one in examples]
    found_gaps: dict[str, tuple[float, float, int]] = {}
    free: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        adapter = adapter_folder(given.run) if given.run else place / "adapter"
        if not given.run:
            make_adapter(model, adapter)
        convert("convert_hf_to_gguf.py", embedded_folder(MODEL), "--outfile", place / "base.gguf")
        loras: Mapping[str, Path | None] = {
            "untouched": None,
            "adapter": place / "plain.gguf",
            "activated": place / "activated.gguf",
        }
        job, source = Job(MODEL), given.run or adapter
        export_job(job, source, place / "plain.gguf", "gguf-adapter")
        done = export_job(job, source, place / "activated.gguf", "gguf-adapter", activated=True)
        assert done.activation
        start = invocation_start(builder, prompts, facts[0])
        expected = expected_odds(model, adapter, prompts, start)
        for name, lora in loras.items():
            with llama_server(place / "base.gguf", lora) as (_, address):
                found, free[name] = [], []
                for one, prompt in zip(examples, prompts, strict=True):
                    found.append(log_odds(address, prompt_1(one), prompt))
                    free[name].append(free_answer(address, one.question))
            found_gaps[name] = gaps(torch.tensor(found, dtype=torch.float64), expected[name])
    same = {
        name: sum(one == other for one, other in zip(free[name], free["untouched"], strict=True))
        for name in free
    }
    moved = {
        name: float((expected[name] - expected["untouched"]).abs().mean()) for name in expected
    }
    result = {
        "prompts": len(prompts),
        "activated_by": done.activation.text,
        "moved": moved,
        "gaps": found_gaps,
        "free_as_untouched": same,
        "machine": machine("cpu"),
    }
    rows = [
        (
            name,
            f"{moved[name]:.3f}",
            f"{mean:.5f}",
            f"{most:.5f}",
            other,
            f"{same[name]} of {len(prompts)}",
        )
        for name, (mean, most, other) in found_gaps.items()
    ]
    header = ("served", "moves log odds by", "mean gap", "largest gap", "other verdicts")
    lines = [
        f"{len(prompts)} yes/no prompts; activated by {done.activation.text!r}.",
        *table((*header, "free answers as untouched"), rows),
    ]
    finish(result, lines, given.json)


if __name__ == "__main__":
    main()
