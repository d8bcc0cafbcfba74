"""Making the paper's tables and figures for some models."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nasalign.errors import NasAlignError, StorageError
from nasalign.io.locks import one_run_in
from nasalign.io.storage import check_no_links, sweep
from nasalign.progress import Reporter
from nasalign.reproduction.document import Failure, write_document, write_result
from nasalign.reproduction.figures import FIGURES
from nasalign.reproduction.paper_tables import TABLES
from nasalign.reproduction.result import Result
from nasalign.reproduction.statistics import STATISTICS
from nasalign.reproduction.study import Study

_MADE: dict[str, Callable[[Sequence[Study]], Result]] = {**FIGURES, **TABLES, **STATISTICS}


PAPER = ("sides=one", "context=supporting", "probing_questions=2000")
"""Settings of the paper, whatever the model's size, unless they are set otherwise."""


def _place(name: str) -> tuple[str, int]:
    kind, _, number = name.partition("-")
    return kind, int(number)


ITEMS = {name: _MADE[name] for name in sorted(_MADE, key=_place)}
"""What can be made, by name, in the paper's order: the figures, then the tables."""


def chosen_items(names: Sequence[str]) -> list[str]:
    """Return the names of items as they are here: ``Table 3`` and ``table3`` are ``table-3``.

    Raises:
        NasAlignError: there is no such item.
    """
    found = []
    for given in names:
        plain = given.lower().replace(" ", "").replace("-", "").replace("_", "")
        if plain == "all":
            return list(ITEMS)
        name = next((name for name in ITEMS if name.replace("-", "") == plain), None)
        if name is None:
            raise NasAlignError(
                f"There is no {given!r} to reproduce; there are all, {', '.join(ITEMS)}."
            )
        found.append(name)
    return list(dict.fromkeys(found))


def make_items(
    studies: Sequence[Study], names: Sequence[str], folder: Path, reporter: Reporter
) -> Iterator[Result]:
    """Make items, writes and yields each as it is made, and ends in one document.

    An item that cannot be made is told of, and stands in the document with the reason.

    Args:
        studies: the models, with what was measured of them.
        names: keys of ``ITEMS``.
        folder: where all is written.
        reporter: is told what is being made.

    Raises:
        StorageError: the folder holds a link, another process is at work in it, or it cannot be
            written.
    """
    check_no_links(folder)
    with one_run_in(folder, reporter.say):
        sweep(folder)
        yield from _made(studies, names, folder, reporter)


def _made(
    studies: Sequence[Study], names: Sequence[str], folder: Path, reporter: Reporter
) -> Iterator[Result]:
    start = time.monotonic()
    results: list[Result | Failure] = []
    for place, name in enumerate(names, start=1):
        reporter.say(f"{name} ({place} of {len(names)})")
        try:
            result = ITEMS[name](studies)
        except StorageError:  # the next item could not be written either
            raise
        except NasAlignError as error:
            results.append(Failure(name, str(error)))
            reporter.say(f"{name} cannot be made: {error}")
            continue
        write_result(folder, result)
        results.append(result)
        yield result
    minutes = (time.monotonic() - start) / 60
    facts = [(study.name, study.summary) for study in studies]
    facts.append(("time", f"{minutes:.1f} minutes; what had been measured before was used."))
    write_document(folder, results, facts)
