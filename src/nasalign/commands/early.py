"""Mistakes in the words of a command that can be told before torch is imported, in a second."""

import os
from collections.abc import Iterator, Sequence
from errno import ENOENT
from pathlib import Path

from nasalign.errors import DataError, NasAlignError, did_you_mean
from nasalign.extras import check_tracker

MODEL_FIRST = ("ask", "chat", "serve", "align", "diagnose", "evaluate", "compare")
"""Commands whose first argument is a model."""
FLAGS = (
    *("--json", "--resume", "--overwrite", "--strict", "--trust-remote-code", "--knowledge"),
    *("--help", "-h"),
)
"""Options of these commands that take no value; a test compares."""
_DATA = ("--data", "--probing-data", "--eval")
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
    except (OSError, ValueError):  # a name that no file can have; the command says so
        return


def _check(command: str, given: Sequence[tuple[str, str]]) -> None:
    _check_settings(given)
    for option, value in given:
        if option in _DATA:
            _check_data(value)
        if option == "--adapter" and not Path(value).exists():
            raise NasAlignError(f"There is no adapter: {value} is not there.")
        if option == "--track":
            check_tracker(value)
    arguments = [value for option, value in given if not option]
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


def _check_settings(given: Sequence[tuple[str, str]]) -> None:
    named = [value for option, value in given if option == "--set"]
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
