"""Everything that a GPU has to prove, in stages, in nine minutes at most.

Each stage is a process with a time limit of its own, and each result is written as a JSON line as
soon as it is known, so that a check that is cut short leaves what it measured.

    python benchmarks/gpu_check.py --out gpu.jsonl                 # all stages, on CUDA
    python benchmarks/gpu_check.py --stage parity --stage quant    # two of them
    python benchmarks/gpu_check.py --device cpu --tiny             # tries the code without a GPU
    python benchmarks/gpu_check.py --table gpu.jsonl               # the table in README.md, anew

What it needs where there is no network is collected by ``gpu_wheels.py``.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import machine
from gpu_stages import table
from gpu_stages.stage import Place, Record

SECONDS = 540
"""Of all stages together unless said otherwise."""
LEAST = 15
"""Seconds below which a stage is not begun."""
LIMITS = {  # seconds of each stage, in the order of their value
    "parity": 150,
    "llama3-8b": 180,
    "quant": 70,
    "embedded": 120,
    "qwen2-7b": 120,
    "gemma-7b": 120,
    "compile": 120,
}
MODULES = {"parity": "parity", "quant": "quant", "compile": "compiled", "embedded": "embedded"}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--stage", action="append", choices=list(LIMITS), help="may be repeated")
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options.add_argument("--tiny", action="store_true", help="small sizes, to try the code")
    options.add_argument("--seconds", type=float, default=SECONDS, help="of all stages together")
    options.add_argument("--out", type=Path, default=Path("gpu_check.jsonl"), help="JSON lines")
    options.add_argument("--table", type=Path, metavar="FILE", help="write README.md's table only")
    options.add_argument("--child", choices=list(LIMITS), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.table:
        table.write(arguments.table)
    elif arguments.child:
        _run_stage(arguments.child, arguments)
    else:
        sys.exit(_run_all(arguments))


def _run_all(arguments: argparse.Namespace) -> int:
    """Runs the stages one after the other; returns how many did not end well."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here; --device cpu --tiny tries the code without one.")
    arguments.out.unlink(missing_ok=True)
    write = partial(_write, arguments.out)
    names = [name for name in LIMITS if name in (arguments.stage or LIMITS)]
    write({"stage": "machine", **machine(arguments.device), **_versions()})
    end, failed = time.monotonic() + arguments.seconds, 0
    for name in names:
        left = end - time.monotonic()
        if left < LEAST:
            write({"stage": name, "part": "end", "skipped": "no time was left"})
            continue
        start = time.monotonic()
        code = _child(name, arguments, min(LIMITS[name], left))
        seconds = time.monotonic() - start
        write({"stage": name, "part": "end", "code": code, "seconds": seconds})
        failed += code != 0
    print("\n".join(table.lines(table.read(arguments.out))))
    return failed


def _child(name: str, arguments: argparse.Namespace, seconds: float) -> int | None:
    """Runs a stage in a process of its own; returns its exit code, None where its time ran out."""
    command = [sys.executable, __file__, "--child", name, "--device", arguments.device]
    command += ["--out", str(arguments.out), *(["--tiny"] if arguments.tiny else [])]
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    process = subprocess.Popen(command, start_new_session=True, env=os.environ | quiet)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own children too
        process.wait()


def _run_stage(name: str, arguments: argparse.Namespace) -> None:
    place = Place(torch.device(arguments.device), arguments.tiny)
    failed = False
    for record in _records(name, place):
        _write(arguments.out, {"stage": name, **record})
        failed |= record.get("outcome") == "failed" or "failed" in record
    sys.exit(int(failed))


def _records(name: str, place: Place) -> Iterator[Record]:
    if name in MODULES:
        yield from importlib.import_module(f"gpu_stages.{MODULES[name]}").run(place)
        return
    shapes = importlib.import_module("shapes")
    shape, sizes = ("tiny", shapes.TINY) if place.tiny else (name, shapes.Sizes())
    yield from shapes.measure(shape, place.device, sizes)


def _write(path: Path, record: Record) -> None:
    """Appends a record, on the disk before anything else happens, and prints it."""
    line = json.dumps(record, default=str)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(line if len(line) < 1500 else line[:1500] + " ...", flush=True)


def _versions() -> dict[str, Any]:
    names = ("transformers", "accelerate", "peft", "numpy")
    return {name: importlib.import_module(name).__version__ for name in names} | {
        "python": sys.version.split()[0],
        "cuda": torch.version.cuda,
    }


if __name__ == "__main__":
    main()
