"""What the tests of faults share: running a command, what it said, and comparing two runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from nasalign.commands import app

SETTINGS = ("epochs=2", "n=3", "k=10", "learning_rate=1e-3", "bootstrap_samples=20", "rho=-100")
SETTINGS += ("answer_tokens=4", "sides=both", "halting_share=1.0", "tuning_batch_size=8")
SETTINGS += ("side_effect_questions=4",)  # of a whole run that is over soon


class Stop(Exception):  # noqa: N818
    """Ends a run in the middle, as a kill does: nobody expects it."""


def invoke(*arguments: object) -> Result:
    """Runs a command."""
    return CliRunner().invoke(app, [str(part) for part in arguments])


def done(*arguments: object) -> Result:
    """Runs a command that must succeed."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


def printed(*arguments: object) -> dict[str, Any]:
    """What a command that must succeed prints as JSON."""
    return json.loads(done(*arguments, "--json").stdout.strip().splitlines()[-1])


def python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python, or a module, in a process of its own; what it says is kept apart."""
    command, more = _process(arguments, environment)
    return subprocess.run(command, **more, capture_output=True, check=False)


def start_python(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Starts it and returns at once; all that it says is in one stream."""
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command, more = _process(arguments, environment)
    return subprocess.Popen(command, **more, **out)


def _process(arguments: tuple[object, ...], environment: dict[str, str]) -> Any:
    """Its command and environment: a single thread adds in the same order each time."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return [sys.executable, "-P", *map(str, arguments)], {"env": variables, "text": True}


def said(result: Result) -> str:
    """What a command said, in one line."""
    return " ".join(result.output.split())


def refused(result: Result, code: int = 2) -> str:
    """What a command said that was to end by one sentence, and did."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return said(result)


def assert_same_run(one: Path, other: Path) -> None:
    """All files are the same to the byte, but those that tell how long it took."""
    names = [
        {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        for run in (one, other)
    ]
    assert names[0] == names[1]
    for name in names[0] - {"run.json", "report.html"}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
