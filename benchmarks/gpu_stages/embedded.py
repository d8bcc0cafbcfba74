"""The whole job on this device and on a CPU: the same decisions, and how long it takes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import timed
from gpu_stages.stage import Place, Record

DECISIONS = ("layer", "head", "epochs", "stopped", "kept", "cancelled", "halted")
FIGURES = ("recall", "accuracy", "yes_rate", "nas")


def run(place: Place) -> Iterator[Record]:
    """Yields a record a run of ``align``: by default, in float32, and in float32 on a CPU."""
    with tempfile.TemporaryDirectory() as folder:
        model, options = _task(Path(folder), place)
        exact = ["--dtype", "float32"]
        ways = {"as it is": [], "float32": exact, "float32 on a CPU": [*exact, "--device", "cpu"]}
        if place.tiny:
            del ways["as it is"]
        decided = {}
        for number, (name, own) in enumerate(ways.items()):
            out = Path(folder) / f"run{number}"
            device = [] if "--device" in own else ["--device", place.device.type]
            command = [sys.executable, "-P", "-m", "nasalign", "align", model, "--out", str(out)]
            command += [*options, *own, *device]
            seconds, done = timed(
                lambda: subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: B023
            )
            if done.returncode:
                yield {"part": name, "failed": done.stderr[-2000:]}
                continue
            decided[name] = _decisions(out)
            yield {"part": name, "seconds": seconds, **_figures(out)}
    both = [decided.get(name) for name in ("float32", "float32 on a CPU")]
    yield {
        "part": "comparison",
        "same_decisions": None not in both and both[0] == both[1],
    } | decided


def _task(folder: Path, place: Place) -> tuple[str, list[str]]:
    """The model and the options: the demo, or a tiny model with a few questions."""
    if not place.tiny:
        return "smollm2-135m", ["--set", "side_effect_questions=0"]
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from cases import DENIES, case

    model, questions = case(folder, DENIES, 40)
    quick = ("epochs=1", "k=10", "n=3", "learning_rate=1e-2", "rho=-100", "answer_tokens=6")
    quick += ("bootstrap_samples=50", "side_effect_questions=0", "evaluation_questions=8")
    sets = [part for setting in quick for part in ("--set", setting)]
    return str(model), ["--data", str(questions), *sets]


def _decisions(out: Path) -> Record:
    heads = json.loads((out / "heads.json").read_text())
    rows = [json.loads(line) for line in (out / "tuning.jsonl").read_text().splitlines()]
    tuned = [{key: row[key] for key in DECISIONS} for row in rows if row["record"] == "head"]
    return {"selected": [[head["layer"], head["head"]] for head in heads], "tuned": tuned}


def _figures(out: Path) -> Record:
    """What became of the first data set, before and after."""
    [first, *_] = json.loads((out / "metrics.json").read_text())["datasets"].values()
    return {f"{name}_{when}": first[when][name] for name in FIGURES for when in ("before", "after")}
