"""A run directory of ``compare`` in the formats that the job writes, made without a model."""

from pathlib import Path
from typing import Any

from nasalign.evaluation.metrics import or_none
from nasalign.io.files import write_json
from run_folder import FACTS, SCRIPT, SETTINGS, evaluated, evaluation

MARKED = f"=set{SCRIPT}"
ROWS = (  # name, share of Yes, needs logits, title, serving, chosen
    ("untouched", 0.03, False, "untouched", "nothing", {}),
    ("wording-a", 0.1, False, "wording A of Table 12", "another instruction", {}),
    ("shots", 0.9, False, "four examples with their answers", "a longer prompt", {}),
    ("threshold", 0.5, True, "threshold shift", "a threshold", {"threshold": -1.2345678}),
    ("contextual", 0.55, True, "contextual calibration (Zhao et al., 2021)", "two offsets", {}),
    (
        "lora-all",
        0.48,
        False,
        "LoRA on right and wrong answers (Hu et al., 2022)",
        "an adapter, or merged weights",
        {"learning rate": 3e-4, "epochs": 2, "development balanced accuracy": 0.71},
    ),
    ("steering", 0.6, False, "steering vector", "a hook in one layer", {"layer": 11}),
    ("nasa", 0.85, False, "NASA (Yu et al., 2025)", "nothing", {"kept": [[1, 2], [2, 0]]}),
)
REASON = f"UniBias needs an architecture that this is not {SCRIPT}."


def make_comparison(folder: Path, *, names: tuple[str, ...] = ("facts", MARKED)) -> Path:
    """Writes a comparison of eight rows and one that could not be had."""
    folder.mkdir(parents=True)
    counts = {"pairs": 192, "development": 400, "shots": 4, "only": []}
    facts = FACTS | {"command": "compare", "compare": counts, "further": ["more.jsonl"]}
    write_json(folder / "run.json", facts)
    rows = [_row(seed, names, *about) for seed, about in enumerate(ROWS)]
    failed = {"name": "unibias", "title": "UniBias", "serving": "", "logits": False}
    rows.insert(7, failed | {"error": REASON, "nothing_to_fix": False})
    about = {"n": 80, "questions": 40, "positives": 0.5}
    datasets = dict.fromkeys(names, about)
    content = {"datasets": datasets, "rows": rows, "decoder": "logits"}
    write_json(folder / "comparison.json", content)
    return folder


def _row(
    seed: int,
    sets: tuple[str, ...],
    row: str,
    yes: float,
    logits: bool,
    title: str,
    serving: str,
    chosen: dict[str, Any],
) -> dict[str, Any]:
    how = (SETTINGS["bootstrap_samples"], SETTINGS["seed"])
    untouched = evaluated(evaluation(0.03, seed=10))
    datasets = {}
    for place, data in enumerate(sets):
        found = evaluated(evaluation(yes, seed=10 + seed + 100 * place))
        metrics = found.metrics(*how)
        figures: dict[str, Any] = {
            metric: [metrics[metric], *interval]
            for metric, interval in metrics["intervals"].items()
        }
        figures |= {"auc": found.auc(*how) if seed else None, "gap": or_none(found.gap(*how))}
        if seed:
            figures["accuracy_change"] = untouched.change_to(found, *how)["accuracy"]
        datasets[data] = {"n": 80, "figures": figures}
    changed = 0.0 if seed < 5 else 0.01234
    return {
        "name": row,
        "title": title,
        "serving": serving,
        "logits": logits,
        "error": "",
        "datasets": datasets,
        "cost": {
            "seconds_to_fit": 123.456 * seed,
            "seconds_to_evaluate": 31.2,
            "memory_to_fit": seed * 2**26,
            "threads": 2,
        },
        "parameters": 700_000 * seed,
        "chosen": chosen,
        "changes": {},
        "shots": 0,
        "side_effects": {
            "general_qa": {"n": 100, "before": 0.4, "after": 0.4 - changed}
            | {"change_interval": [-0.03, 0.01], "data": "facts", "judge": "match"},
            "kl": {"prompts": 24, "tokens": 1000, "mean": changed, "interval": [0, 2 * changed]}
            | {"max": 0.5, "same_top_token": 0.98},
            "perplexity": {"tokens": 1000, "before": 12.34, "after": 12.34 + changed},
        },
    }
