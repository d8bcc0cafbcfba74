"""Is a run that is killed and gone on with the run that nobody killed, to the byte?

A tiny model is aligned once without a disturbance. Then the same command is started with --resume,
killed after a random time by SIGKILL or SIGTERM, started again, and so on; whenever it comes to its
end, what it has left is compared with the undisturbed run, and it begins anew until there were
enough kills. After every kill each file in the run directory must be whole.

Compared byte for byte is every file, but of run.json the timings and what memory was free; the
report, which tells them, is made again with those of the undisturbed run.

    python benchmarks/kill_and_resume.py --kills 40

With --edits, the data, the dtype or the adapter is changed between a kill and --resume instead.
Other data and another dtype must be refused by name, and the run end as if nothing had been once
they are as before; an adapter is written anew.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from common import finish, machine, parser, table
from nasalign.commands import app
from nasalign.io.files import write_json
from nasalign.io.storage import SUMS, whole
from nasalign.reporting.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the tiny model is that of the tests
from cases import DENIES, case

SETTINGS = ("epochs=4", "n=5", "k=10", "learning_rate=1e-3", "bootstrap_samples=200", "rho=-100")
SETTINGS += ("answer_tokens=6", "sides=both", "halting_share=1.0", "tuning_batch_size=4")
METHODS = {"nasa": (), "nasa+": ("joint_epochs=2", "known_pairs=60")}
STAGES = {  # by the last file that is there, the latest first
    "metrics.json": "complete, its report at most missing",
    "attention.json": "metrics",
    "side_effects.json": "attention",
    "eval/questions.after.jsonl": "side effects",
    "adapter": "evaluating after",
    "tuning.jsonl": "tuning",
    "joint.jsonl": "tuning",
    "heads.json": "before tuning",
    "probing.jsonl": "choosing heads",
    "parametric.jsonl": "probing set",
    "eval/questions.before.jsonl": "free answers",
    "run.json": "evaluating before",
    ".lock": "loading the model",
}
UNEQUAL = ("timings", "replay", "budget")  # of run.json: seconds, and what memory was free


@dataclass
class Tally:
    """What was counted for a method."""

    kills: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    files_seen: int = 0
    half: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    compared: int = 0
    refused: list[str] = field(default_factory=list)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=40, help="in all, of both methods")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--questions", type=int, default=80)
    options.add_argument("--edits", action="store_true", help="change something after each kill")
    arguments = options.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kill-and-resume-") as temporary:
        model, data = case(Path(temporary), DENIES, questions=arguments.questions)
        tallies = {}
        for method in METHODS:
            command = _command(model, data, method)
            share = arguments.kills // len(METHODS)
            place = Path(temporary) / method
            if arguments.edits:
                tallies[method] = _edit(command, place, data, share, rng)
            else:
                tallies[method] = _kill(command, place, share, rng)
    result = {"benchmark": "kill_and_resume", "machine": machine("cpu"), "seed": arguments.seed}
    result |= {"methods": {name: _plain(tally) for name, tally in tallies.items()}}
    finish(result, _lines(tallies), arguments.json)
    if any(tally.half or tally.unequal or tally.refused for tally in tallies.values()):
        raise SystemExit(1)


def _command(model: Path, data: Path, method: str) -> list[str]:
    sets = [part for one in SETTINGS + METHODS[method] for part in ("--set", one)]
    sets += ["--method", method, "--resume", "--out"]
    return ["align", str(model), "--data", str(data), *sets]


def _kill(command: list[str], place: Path, kills: int, rng: random.Random) -> Tally:
    """Kills a run at random times until there were enough, and compares each that ends."""
    place.mkdir()
    undisturbed, folder, tally = place / "undisturbed", place / "run", Tally()
    start = time.perf_counter()
    code, said = _end(_start(command, folder), folder, None)
    if code != 0:
        raise SystemExit(f"The undisturbed run failed: {said}")
    longest = time.perf_counter() - start
    folder.rename(undisturbed)  # both had the same name, which the report tells
    while tally.kills.total() < kills or folder.exists():
        process = _start(command, folder)
        sign = None
        done = (folder / "metrics.json").exists()  # the report alone may be missing
        if tally.kills.total() < kills and not done and _at_work(process, folder):
            sign = rng.choice((signal.SIGKILL, signal.SIGTERM))
            time.sleep(rng.uniform(0, longest * 0.4))
        stage = _stage(folder)
        code, said = _end(process, folder, sign)
        if sign is not None and code in (-signal.SIGKILL, 143):
            tally.kills[sign.name] += 1
            tally.stages[stage] += 1
            print(f"{place.name}: {sign.name} at: {stage}", file=sys.stderr, flush=True)
            tally.ends[f"{sign.name}: exit {code}"] += 1
            seen, half = _half(folder)
            tally.files_seen += seen
            tally.half += half
        if code == 2 and "nothing is left to do" in said:
            code = 0  # it was killed after the last file
        if code == 0:
            tally.runs += 1
            compared, unequal = _unequal(undisturbed, folder)
            tally.compared += compared
            tally.unequal += unequal
            shutil.rmtree(folder)
        elif sign is None or code not in (-signal.SIGKILL, 143):
            tally.refused.append(f"exit {code}: {said[-300:]}")
            shutil.rmtree(folder, ignore_errors=True)
    return tally


def _edit(command: list[str], place: Path, data: Path, kills: int, rng: random.Random) -> Tally:
    """Kills a run, changes something, resumes it, puts it back, and resumes it to its end."""
    place.mkdir()
    undisturbed, folder, tally = place / "undisturbed", place / "run", Tally()
    start = time.perf_counter()
    code, said = _end(_start(command, folder), folder, None)
    if code != 0:
        raise SystemExit(f"The undisturbed run failed: {said}")
    longest = time.perf_counter() - start
    folder.rename(undisturbed)
    original = data.read_bytes()
    while tally.kills.total() < kills:
        process = _start(command, folder)
        if _at_work(process, folder):
            time.sleep(rng.uniform(0, longest * 0.8))
        code, said = _end(process, folder, signal.SIGKILL)
        begun, done = (folder / "run.json").exists(), (folder / "metrics.json").exists()
        if code != -signal.SIGKILL or not begun or done:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        tally.kills["SIGKILL"] += 1
        tally.stages[_stage(folder)] += 1
        adapter = folder / "adapter" / "adapter_config.json"
        kind = rng.choice(("data", "dtype", *["adapter"] * adapter.exists()))
        options = ["--dtype", "bfloat16"] if kind == "dtype" else []
        if kind == "data":
            data.write_bytes(original.replace(b"banana", b"cherry", 1))
        elif kind == "adapter":
            adapter.write_text(adapter.read_text().replace('"lora_alpha": ', '"lora_alpha": 1'))
        if kind != "adapter":
            code, said = _end(_start([*command[:-1], *options, command[-1]], folder), folder, None)
            named = "content of" if kind == "data" else "another dtype"
            tally.ends[f"{kind} changed: exit {code}"] += 1
            if code != 2 or named not in said:
                tally.refused.append(f"{kind} was not refused by name: exit {code}: {said[-300:]}")
        data.write_bytes(original)
        code, said = _end(_start(command, folder), folder, None)
        tally.ends[f"{kind} as before: exit {code}"] += 1
        if code == 0:
            tally.runs += 1
            compared, unequal = _unequal(undisturbed, folder)
            tally.compared += compared
            tally.unequal += unequal
        else:
            tally.refused.append(f"{kind}: it does not go on: exit {code}: {said[-300:]}")
        shutil.rmtree(folder)
    return tally


def _start(command: list[str], folder: Path) -> BaseProcess:
    """Starts a run in a process of its own; what it would import is there already."""
    process = get_context("fork").Process(target=_run, args=([*command, str(folder)], _log(folder)))
    process.start()
    return process


def _run(command: list[str], log: Path) -> None:
    with log.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        app(command)


def _log(folder: Path) -> Path:
    return folder.with_suffix(".log")


def _at_work(process: BaseProcess, folder: Path) -> bool:
    """Waits until a process has taken its folder: before that there is nothing to break."""
    lock = folder / ".lock"
    while process.is_alive():
        with suppress(FileNotFoundError):
            if str(process.pid) in lock.read_text():
                return True
        time.sleep(0.005)
    return False


def _end(process: BaseProcess, folder: Path, sign: signal.Signals | None) -> tuple[int, str]:
    if sign is not None and process.pid and process.is_alive():
        os.kill(process.pid, sign)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, " ".join(_log(folder).read_text().split())


def _stage(folder: Path) -> str:
    """What a run is at, by what is there."""
    return next((stage for name, stage in STAGES.items() if (folder / name).exists()), "starting")


def _half(folder: Path) -> tuple[int, list[str]]:
    """How many files there are by their own names, and which of them are not whole."""
    files = [path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder)]
    found = []
    for path in files:
        try:
            _read(path)
        except (ValueError, SafetensorError) as error:
            found.append(f"{path.relative_to(folder)}: {error}")
    for sums in folder.rglob(SUMS):
        for line in sums.read_text().splitlines():
            path = sums.with_name(line.partition("  ")[2])
            if path.exists() and not whole(path, lambda _: None):
                found.append(f"{path.relative_to(folder)}: another than was sealed")
    adapter = folder / "adapter"
    if adapter.exists() and len(list(adapter.iterdir())) != 2:
        found.append("adapter: one file alone")
    return len(files), found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read(path: Path) -> None:
    """Reads a file whole.

    Raises:
        ValueError: it is half; so is SafetensorError.
    """
    if path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        *lines, last = path.read_text().split("\n")
        grows = path.name in ("tuning.jsonl", "joint.jsonl")  # a line at a time
        for line in lines + ([] if grows else [last] if last else []):
            json.loads(line)
    elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("no end")


def _unequal(undisturbed: Path, folder: Path) -> tuple[int, list[str]]:
    """How many files were compared, and which differ."""
    facts = [json.loads((run / "run.json").read_text()) for run in (undisturbed, folder)]
    write_json(
        folder / "run.json",
        facts[1] | {name: facts[0][name] for name in UNEQUAL if name in facts[0]},
    )
    report = get_context("fork").Process(target=write_report, args=(folder,))  # its charts
    report.start()  # start threads, which a process must not have that is forked later
    report.join()
    names = sorted(
        {str(path.relative_to(run)) for run in (undisturbed, folder) for path in run.rglob("*")}
    )
    files = [name for name in names if not (undisturbed / name).is_dir()]
    return len(files), [
        name for name in files if _bytes(undisturbed / name) != _bytes(folder / name)
    ]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _plain(tally: Tally) -> dict[str, Any]:
    return {
        name: dict(value) if isinstance(value, Counter) else value
        for name, value in vars(tally).items()
    }


def _lines(tallies: dict[str, Tally]) -> list[str]:
    header = ("method", "SIGKILL", "SIGTERM", "runs that ended", "files seen after kills", "half")
    header += ("files compared", "unequal", "refused")
    rows = []
    for method, one in tallies.items():
        signs = (one.kills["SIGKILL"], one.kills["SIGTERM"])
        counts = (one.runs, one.files_seen, len(one.half), one.compared, len(one.unequal))
        rows.append((method, *signs, *counts, len(one.refused)))
    lines = table(header, rows)
    for method, one in tallies.items():
        for what, count in one.stages.most_common():
            lines.append(f"{method}: {count} kills at: {what}")
        lines += [f"{method}: {count} x {end}" for end, count in sorted(one.ends.items())]
        for bad in (*one.half, *one.unequal, *one.refused):
            lines.append(f"{method}: {bad}")
    return lines


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
