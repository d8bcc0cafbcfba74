"""What ``align`` does to a model with no setting given, over seeds: figures, and its budget.

Each run is the command a user would start, but for the seed: a model is tuned on one split of the
embedded facts or of StrategyQA and evaluated on another, within the default budget of time. What is
kept of earlier runs is not read (``NASALIGN_RESULTS=off``): the time is to be that of a first
run. A run that is in the output folder already is not started again.

    python benchmarks/no_settings.py --strategyqa strategyqa_train.json --out runs/no-settings \\
        smollm2-135m ../qwen05

``--threads 1`` measures one core, ``--budget 5m`` another budget.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from common import finish, machine, parser, table

SETS = {"facts": "facts", "strategyqa": "StrategyQA"}
WHEN = ("before", "after")
PAIRS = {
    "recall": "recall",
    "precision": "precision",
    "accuracy": "accuracy",
    "yes_rate": "share of Yes",
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("models", nargs="+")
    options.add_argument("--strategyqa", type=Path, help="the published file")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--data", choices=list(SETS), nargs="+", default=list(SETS))
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--threads", type=int, help="of torch; all cores unless given")
    options.add_argument("--budget", help="as --budget of align; its default unless given")
    arguments = options.parse_args()
    if "strategyqa" in arguments.data and not arguments.strategyqa:
        options.error("--data strategyqa needs its file: --strategyqa FILE")
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in arguments.models:
        for data in arguments.data:
            for seed in arguments.seeds:
                parts = [Path(model).name, data, seed, arguments.threads or "all", arguments.budget]
                folder = arguments.out / "-".join(str(part) for part in parts)
                rows.append(_measured(model, data, seed, folder, arguments))
    result = {"machine": machine("cpu"), "threads": arguments.threads, "rows": rows}
    finish(result, [*_figures(rows), "", *_budgets(rows)], arguments.json)


def _measured(model: str, data: str, seed: int, folder: Path, arguments: Any) -> dict[str, Any]:
    """Starts a run unless it is there; returns what it says."""
    done = folder / "row.json"
    if done.exists():
        return json.loads(done.read_text())
    command = [sys.executable, "-P", "-m", "nasalign", "align", model, "--set", f"seed={seed}"]
    if data == "strategyqa":
        command += ["--data", data, "--source", f"{data}={arguments.strategyqa}"]
    command += ["--out", str(folder), "--overwrite", "--json"]
    command += ["--budget", arguments.budget] if arguments.budget else []
    environment = os.environ | {"NASALIGN_RESULTS": "off"}
    if arguments.threads:
        environment["OMP_NUM_THREADS"] = str(arguments.threads)
    begun = time.perf_counter()
    with (arguments.out / f"{folder.name}.log").open("w") as log:
        made = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, check=True, text=True
        )
    seconds = time.perf_counter() - begun
    run = json.loads((folder / "run.json").read_text())
    found = json.loads(made.stdout)
    row = {
        "model": Path(model).name,
        "data": data,
        "seed": seed,
        "seconds": seconds,
        "budget": run["budget"],
        "settings": {name: run["settings"][name] for name in ("probing_questions", "n", "epochs")},
        "timings": run["timings"],
        "kept": run["adapter"]["heads_kept"],
        **{name: found[name][data] for name in ("datasets", "changes")},
    }
    done.write_text(json.dumps(row))
    return row


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each run and data set, and one for the mean of a model's seeds."""
    header = ["model", "data", "seed", "n", *PAIRS.values(), "change of accuracy"]
    header += ["precision - recall", "heads kept"]
    lines = []
    for model, data in dict.fromkeys((row["model"], row["data"]) for row in rows):
        own = [row for row in rows if (row["model"], row["data"]) == (model, data)]
        for row in own:
            found, (change, low, high) = row["datasets"], row["changes"]["accuracy"]
            ends = [f"{change:+.3f} ({low:+.3f} to {high:+.3f})", _gap([found]), row["kept"]]
            about = [model, SETS[data], row["seed"], found["after"]["n"]]
            lines.append([*about, *_pairs([found]), *ends])
        seeds = [row["datasets"] for row in own]
        lines.append([model, SETS[data], "mean", "", *_pairs(seeds), "", _gap(seeds), ""])
    return table(header, lines)


def _budgets(rows: list[dict[str, Any]]) -> list[str]:
    """What each run was expected to take, and took."""
    header = [
        "model",
        "data",
        "seed",
        "budget",
        "expected",
        "took",
        "of the budget",
        "counts lowered",
    ]
    lines = []
    for row in rows:
        budget, expected = row["budget"], sum(row["budget"]["estimated_seconds"].values())
        minutes = budget["minutes"]
        share = f"{row['seconds'] / 60 / minutes:.0%}" if minutes else ""
        lowered = ", ".join(budget["given"]) or "none"
        limit = f"{minutes} min" if minutes else "none"
        times = [f"{value:.0f} s" for value in (expected, row["seconds"])]
        lines.append([row["model"], SETS[row["data"]], row["seed"], limit, *times, share, lowered])
    return table(header, lines)


def _pairs(found: list[dict[str, Any]]) -> list[str]:
    """Each figure before and after, as the mean over runs."""
    return [
        " -> ".join(_mean([one[when][metric] for one in found]) for when in WHEN)
        for metric in PAIRS
    ]


def _mean(found: list[float | None]) -> str:
    """The mean; a model that never says Yes has no precision."""
    known = [one for one in found if one is not None]
    return f"{fmean(known):.3f}" if known else "-"


def _gap(found: list[dict[str, Any]]) -> str:
    """Precision minus recall afterwards, as the mean over runs."""
    gaps = [
        one["after"]["precision"] - one["after"]["recall"]
        for one in found
        if one["after"]["precision"] is not None
    ]
    return f"{fmean(gaps):+.3f}" if gaps else "-"


if __name__ == "__main__":
    main()
