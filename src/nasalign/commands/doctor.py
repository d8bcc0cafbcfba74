"""What is here to work with: versions, devices, memory, folders, the hub, and what is missing."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement

from nasalign.extras import EXTRAS, lack

State = Literal["good", "note", "problem"]
_GIB = 2**30
_FREE_GIB = 2.0  # the embedded model, its download and a run take about one
_SECONDS = 5  # that the hub may take to answer


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        part: what it belongs to, such as ``"versions"``.
        name: what was looked at.
        says: what was found; no key and no token is ever in it.
        state: ``"problem"`` where nasalign does not work until it is mended.
    """

    part: str
    name: str
    says: str
    state: State = "good"


def examine(runs: Path = Path("runs")) -> list[Finding]:
    """Looks at everything a run needs; writes nothing that stays.

    Args:
        runs: where run directories are made.
    """
    found: list[Finding] = []
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions,
        _devices,
        _cache,
        lambda: _folder("folders", "runs", runs),
        _hub,
        _judge,
        _extras,
    )
    for part in parts:
        try:
            found += part()
        except (ImportError, OSError, RuntimeError) as error:
            found.append(Finding("examination", "broken", _first_line(error), "problem"))
    return found


def usable(findings: list[Finding]) -> bool:
    """Returns whether nothing stands in the way."""
    return not any(finding.state == "problem" for finding in findings)


def _versions() -> Iterator[Finding]:
    """Every package of the core beside the range that is asked for."""
    yield Finding("versions", "nasalign", version("nasalign"))
    yield Finding("versions", "python", f"{platform.python_version()}, {platform.platform()}")
    for text in requires("nasalign") or []:
        asked = Requirement(text)
        if asked.marker and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(asked.name)
        except PackageNotFoundError:
            yield Finding("versions", asked.name, f'missing: pip install "{text}"', "problem")
            continue
        if asked.specifier.contains(there, prereleases=True):
            yield Finding("versions", asked.name, there)
        else:
            says = f'{there}, but {asked.specifier} is needed: pip install "{text}"'
            yield Finding("versions", asked.name, says, "problem")


def _devices() -> Iterator[Finding]:
    memory, cores = psutil.virtual_memory(), psutil.cpu_count(logical=False) or os.cpu_count()
    says = f"{cores} cores, {memory.total / _GIB:.1f} GiB, {memory.available / _GIB:.1f} free"
    yield Finding("devices", "cpu", f"{says}; {_room(memory.available, 4, 'float32')}")
    torch = import_module("torch")
    if torch.cuda.is_available():
        for place in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(place)
            name = torch.cuda.get_device_name(place)
            says = f"{name}, {total / _GIB:.1f} GiB, {free / _GIB:.1f} free"
            yield Finding("devices", f"cuda:{place}", f"{says}; {_room(free, 2, 'bfloat16')}")
    elif torch.backends.mps.is_available():
        yield Finding("devices", "mps", "shares the memory of the cpu")
    else:
        built = torch.version.cuda or torch.version.hip
        why = f"none is visible to torch, which is built for {built}" if built else "none"
        yield Finding("devices", "accelerator", f"{why}; all runs on the cpu", "note")


def _room(size: float, bytes_each: int, dtype: str) -> str:
    """A rough word on what fits: the weights take at most 70 %, activations the rest."""
    return f"room for a model of about {0.7 * size / bytes_each / 1e9:.1f}B parameters in {dtype}"


def _cache() -> Iterator[Finding]:
    from nasalign.io.storage import cache_folder
    from nasalign.models.embedded import EMBEDDED_MODELS, is_cached

    yield from _folder("folders", "cache", cache_folder(), "; NASALIGN_CACHE names another")
    for alias in EMBEDDED_MODELS:
        says = "is there" if is_cached(alias) else "is fetched when it is first used, 90 MB"
        yield Finding("folders", alias, says)


def _folder(part: str, name: str, folder: Path, advice: str = "") -> Iterator[Finding]:
    """Whether a file can be made there, or in the nearest folder above that is there."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free / _GIB
    except OSError as error:
        says = f"{folder} cannot be written: {error.strerror}{advice}"
        yield Finding(part, name, says, "problem")
        return
    state: State = "good" if free >= _FREE_GIB else "note"
    yield Finding(part, name, f"{folder}, {free:.1f} GiB free", state)


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


def _first_line(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__
