"""Goes through the paper and compares each of its items with an independent, literal computation.

    python benchmarks/paper_check.py --data-dir DATA --paper PAPER --quick --out check

The product makes everything by ``nasalign reproduce all`` with the embedded model. What it should
be is computed anew, from the paper's text and the published files, by plain transformers (eager
attention in float64), numpy, scipy and scikit-learn; ``paper_literal`` imports nothing of
nasalign, and reads only what its command line leaves. A line a comparison says what was compared
with what, how many values, and the largest difference. Exit status 1 if any differs.

``--made FOLDER`` checks a reproduction that is there already, with one model in the hub's layout.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from paper_literal import endpoint_checks, row_checks, shot_checks, text_checks, tuning_checks
from paper_literal.findings import Findings
from paper_literal.model import Literal
from paper_literal.model_checks import ModelChecks
from paper_literal.produced import AFTER, BEFORE, Produced, reproduce

COMMON = "direction=negative min_true_positives=1 bootstrap_samples=50 learning_rate=1e-4"
"""Settings of the paper where the preset of small models has its own; a rate that keeps heads."""
QUICK = {"limit": 4, "rows": 1, "epochs": 1}
FULL = {"limit": 60, "rows": 12, "epochs": 3}
SETTINGS = {  # D fits one batch, so that the order of its samples does not matter
    "quick": "probing_questions=40 tuning_samples=8 validation_samples=4 epochs=2 n=2"
    " free_answer_tokens=24",
    "full": "probing_questions=1000 tuning_samples=32 validation_samples=16 epochs=5"
    " decoder=generate",
}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data-dir", type=Path, required=True, help="the published data sets")
    options.add_argument(
        "--paper", type=Path, required=True, help="the paper's text, or its folder"
    )
    options.add_argument("--model", default="smollm2-135m", help="as for nasalign")
    options.add_argument("--quick", action="store_true", help="small sizes")
    options.add_argument("--out", type=Path, help="where the reproduction is kept")
    options.add_argument("--made", type=Path, help="a reproduction to check; none is made")
    options.add_argument("--json", type=Path, metavar="FILE", help="write all comparisons there")
    given = options.parse_args()
    torch.set_grad_enabled(True)
    start, findings = time.monotonic(), Findings()
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        made = Produced(given.made) if given.made else _make(given, out)
        check(made, given.paper, given.data_dir, QUICK if given.quick else FULL, findings, out)
    if given.json:
        given.json.write_text(json.dumps(findings.as_json(), indent=1), encoding="utf-8")
    sys.exit(summary(findings, time.monotonic() - start))


def _make(given: argparse.Namespace, out: Path) -> Produced:
    sizes = QUICK if given.quick else FULL
    chosen = f"{COMMON} {SETTINGS['quick' if given.quick else 'full']}".split()
    options = [part for one in chosen for part in ("--set", one)]
    limit = ["--limit", str(sizes["limit"])]
    data = _without_hotpotqa(given.data_dir, out / "data") if given.quick else given.data_dir
    return reproduce(out / "reproduction", given.model, data, [*options, *limit])


def _without_hotpotqa(data: Path, folder: Path) -> Path:
    """Copies the data sets but HotpotQA: the facts, of which more is known, are probed then."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in data.glob("*.json*"):
        if "hotpot" not in path.name:
            shutil.copyfile(path, folder / path.name)
    return folder


def check(
    made: Produced, paper: Path, data: Path, sizes: dict[str, int], findings: Findings, out: Path
) -> None:
    """Makes all comparisons."""
    text_checks.check_printed(paper, made, findings)
    row_checks.check(made, findings, data)
    folder = made.facts["model"]["name"]
    literal = Literal.load(folder)
    forms = {BEFORE: literal, AFTER: literal}
    if made.adapter():
        forms[AFTER] = Literal.load(folder, made.adapter())
    models = ModelChecks(made, literal, data, paper, sizes["rows"])
    models.check(findings, forms)
    shot_checks.check(made, literal, models.prompt_one, data, out / "tasks", findings)
    untouched = Literal.load(folder, dtype=torch.float32)
    tuning_checks.check(made, untouched, models.prompt_one, sizes["epochs"], findings)
    text_checks.check_samples(paper, data, out / "samples", findings)
    endpoint_checks.check(paper, data, folder, out / "endpoint", findings)


def summary(findings: Findings, seconds: float) -> int:
    """Prints the counts and returns the exit status."""
    verdicts = [one.verdict for one in findings.made]
    counts = ", ".join(f"{verdicts.count(one)} {one}" for one in ("ok", "differs", "not compared"))
    print(f"{len(verdicts)} comparisons in {seconds / 60:.1f} minutes: {counts}.")
    return 1 if findings.differ else 0


if __name__ == "__main__":
    main()
