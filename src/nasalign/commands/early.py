"""Mistakes in the words of a command that can be told before torch is imported, in a second."""

import json
import os
from collections.abc import Iterator, Sequence
from errno import ENOENT
from pathlib import Path

from nasalign.errors import DataError, NasAlignError, did_you_mean, foreign_adapter, shortened
from nasalign.extras import check_tracker

MODEL_FIRST = ("ask", "chat", "serve", "align", "diagnose", "evaluate", "compare")
"""Commands whose first argument is a model."""
FLAGS = (
    *("--json", "--resume", "--overwrite", "--strict", "--trust-remote-code", "--knowledge"),
    *("--untouched", "--no-untouched", "--help", "-h"),
)
"""Options of these commands that take no value; a test compares."""
ROWS = (
    "untouched",
    "wording-a",
    "wording-b",
    "shots",
    "threshold",
    "platt",
    "contextual",
    "domain-context",
    "batch",
    "probe",
    "lora-all",
    "lora-qk",
    "lora-attention",
    "lora-heads",
    "alora",
    "alora-tail",
    "lofit",
    "jola",
    "steering",
    "unibias",
    "random",
    "query-only",
    "nasa",
    "nasa+",
)
"""What ``compare --only`` takes; a test compares with the rows that there are."""
DTYPES = ("float32", "bfloat16", "float16")
"""What ``--dtype`` takes; a test compares with what loading takes."""
_SETTINGS = ("scenario", "judge", "generator")
"""Settings that have an option of their own, whose value is checked as that of the setting."""
_DATA = ("--data", "--probing-data", "--eval")
_TEXT = (".jsonl", ".json", ".csv", ".tsv")
_READ_EARLY = 4 * 2**20
"""Bytes of a data file that are read before the imports; a larger one is read once, later."""
_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".xls", ".gz")


def check_early(command: str, words: Sequence[str]) -> None:
    """Refuse a model, a data set, a file or a setting that is not there.

    What is not looked at here, the command itself refuses.

    Args:
        command: its name.
        words: its arguments.

    Raises:
        NasAlignError: says what is wrong.
    """
    if {"--help", "-h"} & set(words):
        return
    try:
        _check(command, list(_pairs(words)))
    # A name that no file can have, or a broken file: the command says so.
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return


def _check(command: str, given: Sequence[tuple[str, str]]) -> None:
    _check_settings(given)
    arguments = [value for option, value in given if not option]
    if command == "report" and arguments:
        _check_run(Path(arguments[0]))
    if command == "data" and arguments:
        given = [*given, ("--data", arguments[0])]
    for option, value in given:
        if option in _DATA:
            _check_data(value)
        if option == "--adapter":
            _check_adapter(Path(value))
        if option == "--dtype" and value not in DTYPES:
            raise NasAlignError(
                f"There is no dtype {shortened(value)}; choose one of {', '.join(DTYPES)}."
                f"{did_you_mean(value, DTYPES)}"
            )
        if option == "--track":
            check_tracker(value)
        if option == "--only":
            check_row_names([name.strip() for name in value.split(",") if name.strip()], ROWS)
    _check_files(given)
    if command in MODEL_FIRST and arguments:
        from nasalign.models.aliases import check_model_name

        check_model_name(arguments[0])


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option with its value, and each argument with an empty option."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield from (("", argument) for argument in rest)
        elif not word.startswith("-") or word == "-":
            yield "", word
        elif word not in FLAGS:
            name, sign, value = word.partition("=")
            value = value if sign else next(rest, "")
            if name not in FLAGS:
                yield name, value


def check_row_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a name that is none of the rows of a comparison.

    Raises:
        NasAlignError: names the rows that there are, and the nearest.
    """
    for name in names:
        if name not in known:
            raise NasAlignError(
                f"There is no row {shortened(name)}; the rows are {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )


def _check_run(folder: Path) -> None:
    if folder.is_dir() and (folder / "run.json").is_file():
        return  # what is in it, the command reads
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    runs = [one.name for one in beside if (one / "run.json").is_file()]
    raise NasAlignError(
        f"{folder} is no run directory: it holds no run.json.{did_you_mean(folder.name, runs)}"
    )


def _check_adapter(path: Path) -> None:
    """Refuse what is no adapter, and one that another tool has written."""
    if not path.exists():
        raise NasAlignError(f"There is no adapter: {path} is not there.")
    folder = path / "adapter" if (path / "run.json").exists() else path
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    whole = weights.is_file() and config.is_file()
    if not whole or any(one.is_symlink() for one in (folder, weights, config)):
        return  # the command refuses links, unread
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, _READ_EARLY)))
    if "nasalign" not in header.get("__metadata__", {}):
        raise foreign_adapter(weights, json.loads(config.read_bytes()))


def _check_files(given: Sequence[tuple[str, str]]) -> None:
    """Refuse a small data file whose columns or rows the command would refuse."""
    options = dict(given)
    own = any(value.startswith("template") for option, value in given if option == "--set")
    if own or {"--template", "--config", "--adapter"} & set(options):
        return  # a template, also that of a run, says by its placeholders which columns are read
    files = [Path(value) for option, value in given if option in _DATA]
    small = [
        path
        for path in files
        if path.suffix.lower() in _TEXT and path.is_file() and path.stat().st_size <= _READ_EARLY
    ]
    if not small:
        return
    from nasalign.data.file_format import FileFormat
    from nasalign.data.user_file import load_file

    columns = [value for option, value in given if option == "--columns"]
    how = FileFormat.of(columns, options.get("--labels"), options.get("--group-by"))
    for path in dict.fromkeys(small):
        load_file(path, how)


def _check_settings(given: Sequence[tuple[str, str]]) -> None:
    named = [value for option, value in given if option == "--set"]
    named += [
        f"{name}={value}" for name in _SETTINGS for option, value in given if option == f"--{name}"
    ]
    files = [value for option, value in given if option == "--config"]
    if not named and not files:
        return
    from nasalign.config import Settings, parse_assignments, settings_from_file

    settings = settings_from_file(Path(files[-1])) if files else Settings()
    settings.replace(parse_assignments(named))


def _check_data(name: str) -> None:
    path = Path(name)
    if name == "facts" or path.exists():
        return
    if path.suffix.lower() in _ENDINGS:
        beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"Cannot read the data file {path}: {os.strerror(ENOENT)}."
            f"{did_you_mean(path.name, beside)}"
        )
    if "/" not in name:
        from nasalign.data.sources import check_data_name

        check_data_name(name)
