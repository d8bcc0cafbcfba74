"""``run.json`` as it is read back: checked as a whole, and compared when a run is resumed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from pydantic import BaseModel, ConfigDict, ValidationError

from nasalign.config import Settings
from nasalign.errors import NasAlignError, shortened
from nasalign.io.files import read_json

Scalar = str | int | float | bool | None
NAME = "run.json"
_ORIGINS = ("data", "data_origin", "probing_data", "probing_origin", "further")
_OF_NO_FIGURE = (
    "max_calls",
    "concurrency",
    "replay_gib",
    "endpoint_model",
    "budget_minutes",
    "reuse",
)
"""Settings that may differ when a run is resumed."""

_FORMAT = {
    "columns": "--columns",
    "labels": "--labels",
    "group_by": "--group-by",
    "strict": "--strict",
}

_ANEW = "begin again with another --out (align and compare also take --overwrite)"

_NOT_AS_WRITTEN = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    UndefinedError,
)


class _Checked(BaseModel):
    """What is read is taken as it is or refused; what is not named here is taken."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Model(_Checked):
    name: str
    architecture: str
    parameters: int
    layers: int
    heads: int  # of the layer with most
    all_heads: int | None = None
    dtype: str
    device: str
    fingerprint: str
    source: str = ""
    base: str = ""  # into which it was merged, where it is a LoRA adapter
    quantize: str | None = None


class _Budget(_Checked):
    minutes: float | None
    given: dict[str, Scalar]
    estimated_seconds: dict[str, float]
    unlimited_seconds: float


class _RunFile(_Checked):
    """The content of ``run.json``; what a job adds as it goes may be missing."""

    command: str = ""
    model: _Model
    settings: dict[str, Any] = {}
    timings: dict[str, float] = {}
    versions: dict[str, str] = {}
    special_tokens: dict[str, str] = {}
    threads: int = 1
    data: str | dict[str, str] = ""  # by name in a reproduction
    data_origin: str = ""
    probing_data: str = ""
    probing_origin: str = ""
    further: list[str] = []
    digests: dict[str, str] = {}
    files: dict[str, dict[str, dict[str, Any]]] = {}
    file_format: dict[str, Any] = {}
    examples: dict[str, dict[str, Scalar]] = {}
    dropped: dict[str, dict[str, int]] = {}
    endpoints: dict[str, dict[str, Scalar]] = {}
    judged: dict[str, Scalar] = {}
    direction: dict[str, Any] = {}
    probing: dict[str, Scalar] = {}
    replay: dict[str, dict[str, int]] = {}
    compare: dict[str, int | list[str]] = {}
    adapter: str | dict[str, int] = ""
    halting: dict[str, Scalar] = {}
    learning_rate: dict[str, Any] = {}
    budget: _Budget | None = None
    reused: dict[str, int] = {}
    data_part: str = ""


def read_run(folder: Path, name: str = NAME) -> dict[str, Any]:
    """Read the ``run.json`` of a run directory; each value in it is of its type then.

    Args:
        folder: the run directory.
        name: of the file, where it is called otherwise.

    Raises:
        NasAlignError: it is not there, or it is not as it was written.
    """
    path = folder / name
    if not path.exists():
        raise NasAlignError(f"{folder} is no run directory: it holds no {name}.")
    facts = read_json(path)
    try:
        content = _RunFile.model_validate(facts)
        known = Settings().as_dict().keys() & content.settings.keys()
        Settings().replace({name: content.settings[name] for name in known})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = shortened(".".join(map(str, first["loc"])) or "all of it")
        raise NasAlignError(_changed(path, f"at {where}: {first['msg']}")) from None
    except NasAlignError as error:
        raise NasAlignError(_changed(path, str(error).rstrip("."))) from None
    return dict(facts)


def _changed(path: Path, why: str) -> str:
    return f"{path} is not as nasalign writes it ({why}); run the command again."


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Say in a sentence that files of a run are not as they were written, where one is not.

    Raises:
        NasAlignError: what is done with them fails on what is in them.
    """
    try:
        yield
    except _NOT_AS_WRITTEN as error:
        lines = str(error).splitlines() or [""]
        raise NasAlignError(
            f"The files of {folder} are not as nasalign writes them ({type(error).__name__}: "
            f"{lines[0][:200]}); run the command again."
        ) from error


def check_same(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose figures would be of two kinds.

    Args:
        folder: the run directory.
        old: its ``run.json``, as of ``read_run``.
        new: what it would be now.

    Raises:
        NasAlignError: names the first thing that differs, and what to do; or the file is of an
            earlier version, which did not note the data's content.
    """
    if not old.get("digests"):
        raise NasAlignError(
            f"The run in {folder} does not say what its data held, as those of an earlier version; "
            f"{_ANEW}."
        )
    for what, before, now, remedy in _pairs(old, new):
        if before != now:
            raise NasAlignError(
                f"The run in {folder} was begun with another {what}: {before!r}, now {now!r}; "
                f"{remedy}, or {_ANEW}."
            )


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, str]]:
    """What must be the same: its name, what it was, what it is, and how it can be the same."""
    for name in _ORIGINS:
        yield name, old.get(name), new.get(name), "take the same"
    how = [dict(one.get("file_format") or {}) for one in (old, new)]
    for name, option in _FORMAT.items():
        yield option, how[0].get(name), how[1].get(name), "take the same"
    for origin, digest in new["digests"].items():
        before = old["digests"].get(origin)
        yield f"content of {origin}", before, digest, "put it back as it was"
    models = old["model"], new["model"]
    yield "dtype", *(one["dtype"] for one in models), "give it with --dtype"
    yield "quantisation", *(one.get("quantize") for one in models), "take the same --quantize"
    # After these, which change what the fingerprint is of.
    yield "model", *(one["fingerprint"] for one in models), "take the same"
    yield "device", *(one["device"].partition(":")[0] for one in models), "give it with --device"
    begun = dict(old.get("settings", {}))
    begun |= (old.get("budget") or {}).get("given", {})  # before the budget lowered them
    for name, value in new["settings"].items():
        if name not in _OF_NO_FIGURE:
            yield f"setting {name}", begun.get(name), value, "take the same"
    for name, version in new["versions"].items():
        before = old.get("versions", {}).get(name)
        if name == "python":
            before, version = (str(one).rpartition(".")[0] for one in (before, version))
        yield f"version of {name}", before, version, "install that again"
