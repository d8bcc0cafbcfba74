"""The tables of docs/study.md, each by one command; what is there already is not run again.

    python benchmarks/study.py main --data-dir DATA
    python benchmarks/study.py ablations --data-dir DATA
    python benchmarks/study.py plus --data-dir DATA --model MODEL --seeds 0 1 2
    python benchmarks/study.py attention --data-dir DATA --model MODEL --seeds 0 1 2
    python benchmarks/study.py rows --out runs/smollm2-135m-compare

The last prints all rows of a comparison that was run, by the first of its data sets. DATA holds
strategyqa_train.json and hotpotqa_dev_simplified.json as they are published.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SEEDS = (0, 1, 2)
FIGURES = ("accuracy", "auc", "yes_rate", "f1", "ece")
ROWS = {
    "main": ("untouched", "threshold", "nasa", "nasa+"),
    "plus": ("untouched", "platt", "nasa+"),
    "attention": ("untouched", "platt", "lora-attention"),
}
ABLATIONS = {  # name: the settings that differ
    "heads of highest NAS": ["selection=nas"],
    "known pairs alone": ["kinds=known"],
    "no divergence in the loss": ["kl_weight=0"],
    "9 heads": ["joint_heads=9"],
    "queries and keys alone": ["joint_outputs=false"],
}


def compared(
    arguments: argparse.Namespace, name: str, rows: Sequence[str], settings: Sequence[str]
) -> list[dict]:
    """Runs rows of a comparison that are not there yet, and returns them.

    Args:
        arguments: of the command line.
        name: of its folder.
        rows: that are wanted.
        settings: as ``--set`` takes them.
    """
    folder = arguments.out / name
    if set(rows) - {row["name"] for row in _rows(folder)}:
        data = arguments.data_dir
        command = [sys.executable, "-P", "-m", "nasalign", "compare", arguments.model]
        command += ["--eval", "strategyqa", "--eval", "hotpotqa", "--limit", str(arguments.limit)]
        command += ["--source", f"strategyqa={data / 'strategyqa_train.json'}"]
        command += ["--source", f"hotpotqa={data / 'hotpotqa_dev_simplified.json'}"]
        command += ["--out", str(folder), *["--resume"] * folder.exists()]
        command += [part for setting in settings for part in ("--set", setting)]
        command += ["--only", ",".join(rows)]
        subprocess.run(command, check=False)  # with a row that cannot be had it ends with 2
    return [row for row in _rows(folder) if row["name"] in rows]


def _rows(folder: Path) -> list[dict]:
    """The rows of a comparison that were measured, each with what its data are."""
    file = folder / "comparison.json"
    if not file.exists():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    return [row | {"about": found["datasets"]} for row in found["rows"] if not row["error"]]


def show(lines: dict[str, list[dict]]) -> None:
    """Prints a table a data set, and one of costs and side effects.

    Args:
        lines: by label, a row for each seed: their mean, least and greatest is shown, and of a
            single one its interval.
    """
    for data, about in next(iter(lines.values()))[0]["about"].items():
        print(f"\n{data}: n = {about['n']} a seed, {about['positives']:.0%} yes\n")
        _head([*FIGURES])
        for label, rows in lines.items():
            figures = [[row["datasets"][data]["figures"][one] for row in rows] for one in FIGURES]
            print(f"| {label} | {' | '.join(map(_cell, figures))} |")
    print("\nCosts and side effects\n")
    _head(["seconds", "parameters", "free answers", "their change", "KL", "perplexity"])
    for label, rows in lines.items():
        answers, kl, surprise = (
            [row["side_effects"][one] for row in rows] for one in ("general_qa", "kl", "perplexity")
        )
        seconds = statistics.mean(row["cost"]["seconds_to_fit"] for row in rows)
        change = [[one["after"] - one["before"], *one["change_interval"]] for one in answers]
        print(
            f"| {label} | {seconds:.0f} | {rows[0]['parameters']} "
            f"| {statistics.mean(one['after'] for one in answers):.3f} | {_cell(change)} "
            f"| {statistics.mean(one['mean'] for one in kl):.4f} "
            f"| {statistics.mean(one['after'] for one in surprise):.1f} |"
        )


def show_rows(folder: Path) -> None:
    """Prints all rows of a comparison, with their figures on its first data set."""
    rows = _rows(folder)
    if not rows:
        sys.exit(f"There is no comparison in {folder}; name its folder by --out.")
    data = next(iter(rows[0]["about"]))
    titles = ["accuracy", "AUC", "share of Yes", "calibration error", "rate, epochs"]
    _head([*titles, "seconds to fit", "free answers, their change", "KL"])
    for row in rows:
        figures, effects = row["datasets"][data]["figures"], row["side_effects"]
        yes, error = (f"{figures[name][0]:.3f}" for name in ("yes_rate", "ece"))
        chosen, answers = row["chosen"], effects["general_qa"]
        rate = f"{chosen['learning rate']:.0e}" if "learning rate" in chosen else ""
        rate = f"{rate.replace('e-0', 'e-')}, {_epochs(chosen)}" if rate else ""
        low, high = answers["change_interval"] if answers else (0.0, 0.0)
        touched = effects["kl"]["mean"]  # else the interval is that of no change in so many answers
        change = f" ({low:+.2f} to {high:+.2f})" if touched else ""
        shown = (figures[name] for name in ("accuracy", "auc"))
        cells = [*(_cell([one]) if one else "" for one in shown), yes, error, rate]
        cells += [
            f"{row['cost']['seconds_to_fit']:.0f}",
            f"{answers['after']:.2f}{change}" if answers else "",
        ]
        print(f"| {row['name']} | {' | '.join(cells)} | {effects['kl']['mean']:.3f} |")


def _epochs(chosen: dict) -> int:
    """The epochs of a row's change; nasa+ has the number of the epoch that was kept."""
    return int(chosen.get("epochs", chosen.get("epoch", 0)))


def _head(columns: list[str]) -> None:
    print(f"| | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")


def _cell(found: list[list[float]]) -> str:
    """The mean over seeds with the least and the greatest, or one seed's value and interval."""
    values = [value for value, _, _ in found]
    low, high = (min(values), max(values)) if len(values) > 1 else found[0][1:]
    return f"{statistics.mean(values):.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=[*ROWS, "ablations", "rows"])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--data-dir", type=Path, help="not for the table rows")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--limit", type=int, default=120, help="questions of a data set at most")
    arguments = parser.parse_args()
    if arguments.table == "rows":
        show_rows(arguments.out)
        return
    if arguments.data_dir is None:
        parser.error("--data-dir is missing")
    lines: dict[str, list[dict]] = {}
    if arguments.table == "ablations":
        lines["as it is"] = compared(arguments, "seed-0", ["nasa+"], ["seed=0"])
        for place, (label, settings) in enumerate(ABLATIONS.items()):
            lines[label] = compared(arguments, f"ablation-{place}", ["nasa+"], settings)
    else:
        name = "seed" if arguments.table == "main" else arguments.table
        for seed in arguments.seeds:
            rows = compared(arguments, f"{name}-{seed}", ROWS[arguments.table], [f"seed={seed}"])
            for row in rows:
                lines.setdefault(row["name"], []).append(row)
    show(lines)


if __name__ == "__main__":
    main()
