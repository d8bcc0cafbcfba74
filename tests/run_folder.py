"""A run directory in the formats that the jobs write, made without a model."""

import html
import random
import re
from pathlib import Path
from typing import Any

import torch

from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.io.files import write_json, write_jsonl, write_tensors

LAYERS, HEADS = 4, 3
SCRIPT = "<script>alert(1)</script>"
SETTINGS = {
    "vocabulary": "yes/no",
    "decoder": "logits",
    "judge": "match",
    "generator": "rules",
    "learning_rate": 0.0123,
    "halting_share": 0.5,
    "bootstrap_samples": 200,
    "seed": 0,
}
FACTS = {
    "command": "align",
    "timings": {"loading": 0.3, "before/facts": 3.5, "tuning": 7.9},
    "data": "facts",
    "data_origin": "embedded",
    "probing_data": "facts",
    "probing_origin": "embedded",
    "further": [],
    "model": {
        "name": "/cache/tiny",
        "source": "tiny-135m",
        "architecture": "LlamaForCausalLM",
        "parameters": 134515008,
        "layers": LAYERS,
        "heads": HEADS,
        "groups": 1,
        "head_size": 8,
        "dtype": "float32",
        "device": "cpu",
        "fingerprint": "125b8165fad6",
    },
    "special_tokens": {"bos_token": "<|im_start|>"},
    "versions": {"python": "3.11.7", "nasalign": "0.1.0"},
    "threads": 2,
    "settings": SETTINGS,
    "examples": {"facts": {"context": "all", "generator": "rules", "sides": "both", "n": 80}},
    "judged": {"by": "match", "answers": 60, "unclear": 0},
    "dropped": {"facts": {"no wrong answer": 2}},
    "probing": {"TP": 0, "tuning": 20, "validation": 10, "unused": 3, "asked": 60, "known": 33}
    | {"invalid": 0, "smallest_model_nas_of_TP": "-inf"},
    "halting": {"kind": "share", "value": 0.5, "answer": "Yes"},
}


def evaluation(yes: float, *, questions: int = 40, seed: int = 1) -> list[dict[str, Any]]:
    """Rows of an evaluation that says Yes to about this share; a right and a wrong answer each."""
    draw = random.Random(seed)
    rows = []
    for number in range(questions):
        for label in (True, False):
            says = draw.random() < yes
            high, low = draw.uniform(0.3, 0.6), draw.uniform(0.05, 0.3)
            rows.append(
                {
                    "question": f"What is question {number}?" if number else f"Is {SCRIPT} it?",
                    "answer": "this" if label else "that",
                    "label": label,
                    "verdict": "positive" if says else "negative",
                    "p_yes": high if says else low,
                    "p_no": low if says else high,
                    "nas": draw.uniform(50, 60),
                }
            )
    return rows


def metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``metrics.json`` says of rows."""
    return evaluated(rows).metrics(SETTINGS["bootstrap_samples"], SETTINGS["seed"])


def evaluated(rows: list[dict[str, Any]]) -> Evaluation:
    examples = [BinaryExample(row["question"], row["label"], row["answer"]) for row in rows]
    return Evaluation.from_rows(examples, rows)


def head(layer: int, number: int, alphas: list[float], betas: list[float], **fate: Any) -> list:
    """The rows of ``tuning.jsonl`` about a head; the first of each list is its start."""
    where = {"layer": layer, "head": number}
    rows: list[dict[str, Any]] = [
        {"record": "epoch", **where, "epoch": epoch, "loss": 1.0, "alpha": alpha, "beta": beta}
        | {"yes_share": 0.1 * epoch}
        for epoch, (alpha, beta) in enumerate(zip(alphas[1:], betas[1:], strict=True), start=1)
    ]
    record = {
        "record": "head",
        **where,
        "alpha_before": alphas[0],
        "beta_before": betas[0],
        "alpha": alphas[-1],
        "beta": betas[-1],
        "yes_share": 0.1 * len(rows),
        "epochs": len(rows),
        "stopped": "all epochs",
        "kept": True,
        "cancelled": "",
        "halted": "",
    }
    return [*rows, record | fate]


def make_run(
    folder: Path,
    *,
    yes_before: float = 0.05,
    yes_after: float = 0.6,
    more: bool = False,
    kept: bool = True,
) -> Path:
    """Writes a complete alignment; ``more`` adds a second data set."""
    begin_run(folder)
    names = ("facts", "other.set") if more else ("facts",)
    datasets: dict[str, Any] = {}
    (folder / "eval").mkdir()
    for name in names:
        datasets[name] = {}
        for side, yes in (("before", yes_before), ("after", yes_after)):
            rows = evaluation(yes, seed=1 if side == "before" or not kept else 2)
            write_jsonl(folder / "eval" / f"{name}.{side}.jsonl", rows)
            datasets[name][side] = metrics(rows)
    write_probing(folder)
    cancelled = {"kept": False, "cancelled": "head NAS above its start", "stopped": "head NAS rose"}
    rows = head(2, 1, [5.0, 5.5, 6.0], [60.0, 61.0, 62.0], **cancelled)
    fate = {"halted": "enough Yes"} if kept else cancelled
    rows += head(1, 2, [4.0, 3.0, 2.5], [60.0, 58.0, 57.0], **fate)
    write_jsonl(folder / "tuning.jsonl", rows)
    write_json(folder / "metrics.json", {"datasets": datasets})
    return folder


def write_joint(folder: Path) -> None:
    """Makes a run one of nasa+, with two epochs and what each head carries."""
    (folder / "tuning.jsonl").unlink()
    rows = [
        {
            **{"record": "joint", "epoch": epoch, "loss": "nan" if epoch == 0 else 0.7},
            **{"learning_rate": "nan" if epoch == 0 else 0.003},
            **{"validation": 1 - epoch / 4, "kept": True},
            **{name: {"known": 0.5, "numbers": 0.4} for name in ("accuracy", "auc", "yes_rate")},
        }
        for epoch in range(3)
    ]
    write_jsonl(folder / "joint.jsonl", rows)
    chosen = [(1, 2, 0.2), (2, 1, 0.1), (3, 0, -0.05)]
    effects = [{"layer": layer, "head": own, "effect": effect} for layer, own, effect in chosen]
    kept = [
        {"heads": heads, "loss": 1 - heads / 8, "accuracy": accuracy, "auc": accuracy}
        for heads, accuracy in ((0, 0.5), (1, 0.612), (3, 0.755))
    ]
    write_json(folder / "head_effects.json", {"heads": effects, "kept": kept})


def begin_run(folder: Path, **facts: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", FACTS | facts)


def write_probing(folder: Path) -> None:
    nas = torch.linspace(-3, 5, LAYERS * HEADS).reshape(1, LAYERS, HEADS).repeat(6, 1, 1)
    write_tensors(folder / "nas.safetensors", {"nas": nas})
    chosen = [(2, 1, 5.0), (1, 2, 4.0), (3, 0, 1.0)]
    rows = [{"layer": layer, "head": number, "nas": nas} for layer, number, nas in chosen]
    write_json(folder / "heads.json", rows)


def write_attention(folder: Path) -> None:
    """Writes ``attention.json`` with two examples and two heads."""
    tokens = [
        "You",
        " MUST",
        " answer",
        " Yes",
        " or",
        " No",
        ".",
        " Is",
        f" {SCRIPT}",
        " it",
        "?\n",
    ]
    sides = {"before": {"yes": [0.01, 0.02, 0.02, 0.0], "no": [0.05, 0.09, 0.03, 0.0]}}
    sides["after"] = {"yes": [0.04, 0.09, 0.02, 0.0], "no": [0.03, 0.02, 0.03, 0.0]}
    said = {"verdict": "negative", "p_yes": 0.1, "p_no": 0.4}
    examples = [
        {
            "question": f"Is {SCRIPT} it? {number}",
            "label": True,
            "before": said,
            "after": {"verdict": "positive", "p_yes": 0.5, "p_no": 0.2},
            "tokens": tokens,
            "yes": 3,
            "no": 5,
            "first_row": 7,
            "attention": [
                {"layer": layer, "head": 1, "nas_before": 0.5, "nas_after": -0.1, **sides}
                for layer in (1, 2)
            ],
        }
        for number in range(2)
    ]
    write_json(folder / "attention.json", {"heads": [[1, 1], [2, 1]], "examples": examples})


def write_side_effects(folder: Path) -> None:
    write_json(
        folder / "side_effects.json",
        {
            "general_qa": {"n": 300, "judge": "match", "before": 0.4, "after": 0.39}
            | {"change_interval": [-0.03, 0.01], "data": "facts"},
            "kl": {"prompts": 20, "tokens": 1000, "mean": 0.0123, "interval": [0.01, 0.015]}
            | {"max": 0.5, "same_top_token": 0.98},
            "perplexity": {"tokens": 1000, "before": 12.34, "after": 12.4},
        },
    )


def without_scripts(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.S)


def text_of(page: str) -> str:
    """What a page says, without scripts, styles and tags."""
    bare = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())
