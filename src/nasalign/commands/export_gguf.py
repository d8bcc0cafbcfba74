"""A GGUF file from a checkpoint, by llama.cpp's own converter."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from nasalign.commands.job import Job
from nasalign.errors import NasAlignError

CHECKOUT = "LLAMA_CPP"
"""The environment variable that names a checkout of llama.cpp."""

_SCRIPT = "convert_hf_to_gguf.py"
_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_LINES = 6  # of a converter that failed


def find_converter() -> Path | None:
    """Returns the converter in the checkout that LLAMA_CPP names, or on the PATH, or None."""
    checkout = os.environ.get(CHECKOUT)
    if checkout and (script := Path(checkout).expanduser() / _SCRIPT).is_file():
        return script
    found = shutil.which(_SCRIPT)
    return Path(found) if found else None


def no_converter(job: Job, run: Path, target: Path, dtype: str | None, tuned: str) -> NasAlignError:
    """Returns the error that names the two commands to type instead.

    Args:
        job: the model, as the user named it.
        run: the run directory.
        target: the GGUF file.
        dtype: that was asked for, or None.
        tuned: the dtype in which it was tuned; empty if that is not known.
    """
    checkpoint = target.with_suffix("")
    export = ["nasalign", "export", str(run), str(checkpoint), "--format", "merged"]
    for option, value in (("--model", job.model), ("--device", job.device), ("--dtype", dtype)):
        export += [option, value] if value else []
    export += ["--trust-remote-code"] * job.trust_remote_code
    convert = ["python", f"llama.cpp/{_SCRIPT}", str(checkpoint), "--outfile", str(target)]
    convert += ["--outtype", _TYPES.get(dtype or tuned, "auto")]
    return NasAlignError(
        f"The converter {_SCRIPT} of llama.cpp is not here; set {CHECKOUT} to a checkout of "
        f"llama.cpp, or type these two commands, the second with the path of yours:\n"
        f"{shlex.join(export)}\n{shlex.join(convert)}"
    )


def convert(converter: Path, checkpoint: Path, target: Path, dtype: str) -> None:
    """Converts a checkpoint to a GGUF file of the same dtype.

    Raises:
        NasAlignError: the converter failed; with the last lines that it said.
    """
    # A script by its path has its own folder on the path, which it imports from, not the current
    # one; so it goes without -P.
    command = [sys.executable, str(converter), str(checkpoint), "--outfile", str(target)]
    command += ["--outtype", _TYPES[dtype]]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode or not target.is_file():
        lines = [line for line in done.stdout.splitlines() if line.strip()][-_LINES:]
        raise NasAlignError(
            f"The converter {converter} made no file (exit code {done.returncode}), and nothing "
            "was left; it said at last:\n" + "\n".join(lines)
        )
