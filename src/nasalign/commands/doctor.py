"""``nasalign doctor``: versions, devices, memory, folders, the hub, and what is missing."""

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
import typer
from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from nasalign.commands.app import PlainConsole
from nasalign.commands.options import AsJson
from nasalign.extras import EXTRAS, lack

_STYLES = {"good": "", "note": "yellow", "problem": "bold red"}
_GIB = 2**30
_SECONDS = 5  # that the hub may take to answer


def doctor(as_json: AsJson = False) -> None:
    """Say what is here to work with, and what is missing: versions, devices, folders, extras.

    Ends with 1 if something stands in the way. No key or token is shown.
    """
    findings = examine()
    problems = [one.name for one in findings if one.state == "problem"]
    if as_json:
        found = {"usable": not problems, "findings": [one._asdict() for one in findings]}
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        console, part = PlainConsole(), ""
        table = Table(show_header=False, box=None, pad_edge=False)
        for one in findings:
            heading = one.part if one.part != part else ""
            table.add_row(heading, one.name, Text(one.says, style=_STYLES[one.state]))
            part = one.part
        console.print(table)
        says = f"To be mended first: {', '.join(problems)}." if problems else "Ready."
        console.print(says, highlight=False)
    if problems:
        raise typer.Exit(1)


class Finding(NamedTuple):
    """One line of the examination.

    Attributes:
        part: what it belongs to, such as ``"versions"``.
        name: what was looked at.
        says: what was found; never a key or a token.
        state: ``"problem"`` where nasalign does not work until it is fixed.
    """

    part: str
    name: str
    says: str
    state: Literal["good", "note", "problem"] = "good"


def examine() -> list[Finding]:
    """Look at everything a run needs; write nothing that stays."""
    found: list[Finding] = []
    for part in (_versions, _devices, _folders, _hub, _judge, _extras):
        try:
            found += part()
        except (ImportError, OSError, RuntimeError) as error:  # such as a torch that does not load
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            found.append(Finding("examination", "broken", reason, "problem"))
    return found


def _versions() -> Iterator[Finding]:
    """Every package of the core, checked against the required versions."""
    yield Finding("versions", "nasalign", version("nasalign"))
    yield Finding("versions", "python", f"{platform.python_version()}, {platform.platform()}")
    for text in requires("nasalign") or []:
        asked = Requirement(text)
        if asked.marker and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(asked.name)
        except PackageNotFoundError:
            there = ""
        if there and asked.specifier.contains(there, prereleases=True):
            yield Finding("versions", asked.name, there)
        else:
            says = f'{there or "missing"}: pip install "{text}"'
            yield Finding("versions", asked.name, says, "problem")


def _devices() -> Iterator[Finding]:
    memory, cores = psutil.virtual_memory(), psutil.cpu_count(logical=False) or os.cpu_count()
    room = _room(memory.total, memory.available, 4, "float32")
    yield Finding("devices", "cpu", f"{cores} cores, {room}")
    torch = import_module("torch")
    if torch.cuda.is_available():
        for place in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(place)
            says = f"{torch.cuda.get_device_name(place)}, {_room(total, free, 2, 'bfloat16')}"
            yield Finding("devices", f"cuda:{place}", says)
    elif torch.backends.mps.is_available():
        yield Finding("devices", "mps", "shares the memory of the cpu")
    else:
        built = torch.version.cuda or torch.version.hip
        why = f"none is visible to torch, which is built for {built}" if built else "none"
        yield Finding("devices", "accelerator", f"{why}; all runs on the cpu", "note")


def _room(total: float, free: float, bytes_each: int, dtype: str) -> str:
    """Memory, and roughly what fits: the weights take at most 70 %, activations the rest."""
    billions = 0.7 * free / bytes_each / 1e9
    return (
        f"{total / _GIB:.1f} GiB, {free / _GIB:.1f} free; "
        f"room for a model of about {billions:.1f}B parameters in {dtype}"
    )


def _folders() -> Iterator[Finding]:
    from nasalign.io.storage import cache_folder
    from nasalign.models.aliases import EMBEDDED_MODELS
    from nasalign.models.embedded import is_cached

    yield _folder("cache", cache_folder(), "; NASALIGN_CACHE names another")
    for alias in EMBEDDED_MODELS:
        says = "is there" if is_cached(alias) else "is fetched when it is first used, 90 MB"
        yield Finding("folders", alias, says)
    yield _folder("runs", Path("runs"))


def _folder(name: str, folder: Path, advice: str = "") -> Finding:
    """Whether a file can be made there, or in the nearest existing parent."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free / _GIB
    except OSError as error:
        says = f"{folder} cannot be written: {error.strerror}{advice}"
        return Finding("folders", name, says, "problem")
    return Finding("folders", name, f"{folder}, {free:.1f} GiB free")


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_session, get_token

    token = "there" if get_token() else "none; gated models need one: hf auth login"
    yield Finding("hub", "token", token)
    if constants.HF_HUB_OFFLINE:
        says = "HF_HUB_OFFLINE is set: only models that are here already"
        yield Finding("hub", "connection", says, "note")
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # of whatever library speaks HTTP
        says = f"{constants.ENDPOINT} does not answer ({type(error).__name__}): only local models"
        yield Finding("hub", "connection", says, "note")
    else:
        yield Finding("hub", "connection", f"{constants.ENDPOINT} answers")


def _judge() -> Iterator[Finding]:
    names = [one for one in ("OPENAI_API_KEY", "OPENAI_BASE_URL") if os.environ.get(one)]
    says = f"set: {' and '.join(names)}" if names else "none; it is for --judge and --generator"
    yield Finding("judge", "endpoint", says)


def _extras() -> Iterator[Finding]:
    for name in EXTRAS:
        sentence = lack(name)
        yield Finding("extras", name, sentence or "installed", "note" if sentence else "good")
