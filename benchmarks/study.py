"""The tables of docs/study.md, each by one command; what is there already is not run again.

    python benchmarks/study.py main --data-dir DATA
    python benchmarks/study.py rivals --data-dir DATA
    python benchmarks/study.py ablations --data-dir DATA

DATA holds strategyqa_train.json and hotpotqa_dev_simplified.json as they are published.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

SEEDS = (0, 1, 2)
FIGURES = ("accuracy", "auc", "yes_rate", "gap", "f1", "ece")
OURS = ("untouched", "threshold", "nasa", "nasa+")
ABLATIONS = {  # name: the settings that differ
    "as it is": [],
    "heads of highest NAS": ["selection=nas"],
    "known pairs alone": ["kinds=known"],
    "query rows alone": ["k_scope=none"],
    "9 heads": ["n=9"],
    "81 heads": ["n=81"],
}


def compared(
    arguments: argparse.Namespace, name: str, rows: tuple[str, ...], settings: list[str]
) -> dict:
    """Runs a comparison, or goes on with it, and returns its ``comparison.json``."""
    folder = arguments.out / name
    data = arguments.data_dir
    command = [sys.executable, "-m", "nasalign", "compare", arguments.model, "--out", str(folder)]
    command += ["--eval", "strategyqa", "--eval", "hotpotqa", "--limit", str(arguments.limit)]
    command += ["--source", f"strategyqa={data / 'strategyqa_train.json'}"]
    command += ["--source", f"hotpotqa={data / 'hotpotqa_dev_simplified.json'}"]
    command += ["--resume"] * folder.exists()
    command += [part for setting in settings for part in ("--set", setting)]
    command += ["--only", ",".join(rows)] if rows else []
    if not (folder / "comparison.json").exists():
        subprocess.run(command, check=False)  # with a row that cannot be had it ends with 2
    found: dict = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return found


def show(comparisons: list[tuple[str, dict]]) -> None:
    """Prints a table a data set: a line a row, the mean over seeds, the intervals of a single one.

    Args:
        comparisons: a label (the same for the seeds of one thing), and a comparison.
    """
    for data, about in comparisons[0][1]["datasets"].items():
        print(f"\n{data}: n = {about['n']} a seed, {about['positives']:.0%} yes\n")
        print(f"| | {' | '.join(FIGURES)} | seconds |")
        print("|---" * (len(FIGURES) + 2) + "|")
        lines: dict[str, list[dict]] = {}
        for label, comparison in comparisons:
            for row in comparison["rows"]:
                if not row["error"]:
                    lines.setdefault(label or row["name"], []).append(row)
        for label, rows in lines.items():
            print(f"| {label} | {' | '.join(_cell(rows, data, one) for one in FIGURES)} | ", end="")
            print(f"{statistics.mean(row['cost']['seconds_to_fit'] for row in rows):.0f} |")


def _cell(rows: list[dict], data: str, figure: str) -> str:
    """The mean over seeds with the least and the greatest, or one seed's value and interval."""
    found = [row["datasets"][data]["figures"][figure] for row in rows]
    values = [value for value, _, _ in found]
    low, high = (min(values), max(values)) if len(values) > 1 else found[0][1:]
    return f"{statistics.mean(values):.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["main", "rivals", "ablations"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--limit", type=int, default=200, help="questions of a data set at most")
    arguments = parser.parse_args()
    if arguments.table == "rivals":
        show([("", compared(arguments, "rivals", (), []))])
    elif arguments.table == "main":
        seeds = [compared(arguments, f"seed-{seed}", OURS, [f"seed={seed}"]) for seed in SEEDS]
        show([("", comparison) for comparison in seeds])
    else:
        show(
            [
                (label, compared(arguments, f"ablation-{place}", ("nasa+",), settings))
                for place, (label, settings) in enumerate(ABLATIONS.items())
            ]
        )


if __name__ == "__main__":
    main()
