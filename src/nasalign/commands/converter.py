"""llama.cpp's own scripts, which make GGUF files of a checkpoint or of an adapter."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasalign.commands.job import Job
from nasalign.errors import NasAlignError
from nasalign.reporting.card import ADAPTERS, Form

CHECKOUT = "LLAMA_CPP"
"""The environment variable that names a checkout of llama.cpp."""
CONVERTERS: Mapping[Form, str] = {
    "gguf": "convert_hf_to_gguf.py",
    "gguf-adapter": "convert_lora_to_gguf.py",
}
"""The script of llama.cpp that makes each GGUF file."""
TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_LINES = 6  # of the output of a converter that failed


def find_converter(form: Form) -> Path | None:
    """Return the converter of a GGUF file in the checkout that LLAMA_CPP names, or on the PATH.

    Returns:
        None where there is none, and for a form that needs none.
    """
    checkout, name = os.environ.get(CHECKOUT), CONVERTERS.get(form)
    if name is None:
        return None
    if checkout and (script := Path(checkout).expanduser() / name).is_file():
        return script
    found = shutil.which(name)
    return Path(found) if found else None


def no_converter(
    job: Job,
    run: Path,
    target: Path,
    form: Form,
    outtype: str,
    options: Mapping[str, Any],
) -> NasAlignError:
    """Return an error that gives the two commands to type instead.

    Args:
        job: the model and how it is loaded.
        run: as it was given.
        target: the GGUF file.
        form: of the export.
        outtype: dtype of the file's weights, by its long name; empty if it is not known.
        options: further ones of the first command, where they have a value.
    """
    script, folder = CONVERTERS[form], str(target.with_suffix(""))
    first = "adapter" if form in ADAPTERS else "merged"
    export = ["nasalign", "export", str(run), folder, "--format", first]
    load = {"--model": job.model, "--device": job.load.device}
    code = {"--trust-remote-code": job.load.trust_remote_code}
    for option, value in (load | dict(options) | code).items():
        if value:
            export += [option] if value is True else [option, str(value)]
    convert = ["python", f"llama.cpp/{script}", folder, "--outfile", str(target)]
    convert += ["--outtype", TYPES.get(outtype, "auto")]
    convert += ["--base", "BASE"] if form in ADAPTERS else []
    path = "the path of yours" if form not in ADAPTERS else "your path and the base model's folder"
    return NasAlignError(
        f"The converter {script} of llama.cpp is not here; set {CHECKOUT} to a checkout of "
        f"llama.cpp, or type these two commands, the second with {path}:\n"
        f"{shlex.join(export)}\n{shlex.join(convert)}"
    )


def convert(
    converter: Path, folder: Path, target: Path, outtype: str, further: Sequence[str] = ()
) -> None:
    """Convert a checkpoint or an adapter to a GGUF file."""
    # Without -P: a script that is started by its path imports from its own folder, as this one
    # needs, and not from the current one.
    command = [sys.executable, str(converter), str(folder), "--outfile", str(target)]
    command += ["--outtype", outtype, *further]
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
            "was left; its last lines:\n" + "\n".join(lines)
        )
