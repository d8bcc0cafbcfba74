"""Making the paper's tables and figures for some models."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from nasalign.errors import NasAlignError, StorageError
from nasalign.io.locks import one_run_in
from nasalign.io.storage import check_no_links, sweep
from nasalign.models import processes
from nasalign.progress import Reporter
from nasalign.reproduction import figures, paper_tables, statistics
from nasalign.reproduction.document import write_document, write_result
from nasalign.reproduction.result import Result
from nasalign.reproduction.study import Study

PAPER = ("sides=one", "context=supporting", "probing_questions=2000")
"""Settings of the paper, whatever the model's size, unless they are set otherwise."""


_IN_ORDER: tuple[Callable[[Sequence[Study]], Result], ...] = (
    *(figures.figure_1, figures.figure_2, figures.figure_3),
    *(figures.figure_5, figures.figure_6, figures.figure_7),
    *(statistics.table_1, statistics.table_2, paper_tables.table_3, paper_tables.table_4),
    *(paper_tables.table_5, paper_tables.table_6, paper_tables.table_7, paper_tables.table_8),
    *(statistics.table_9, paper_tables.table_10, paper_tables.table_11, statistics.table_16),
    *(statistics.table_17, statistics.table_18, paper_tables.table_19, paper_tables.table_20),
)
ITEMS = {item.__name__.replace("_", "-"): item for item in _IN_ORDER}
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
    """Make items, write and yield each as it is made, and end in one document.

    An item that cannot be made is told of, and stands in the document with the reason.

    Raises:
        StorageError: the folder holds a link, another process is at work in it, or it cannot be
            written.
    """
    check_no_links(folder)
    with one_run_in(folder, reporter.say) if processes.is_first() else nullcontext():
        if processes.is_first():
            sweep(folder)
        start = time.monotonic()
        results = []
        for place, name in enumerate(names, start=1):
            reporter.say(f"{name} ({place} of {len(names)})")
            try:
                result = ITEMS[name](studies)
            except StorageError:  # the next item could not be written either
                raise
            except NasAlignError as error:
                results.append(Result(name, failure=str(error)))
                reporter.say(f"{name} cannot be made: {error}")
                continue
            if processes.is_first():
                write_result(folder, result)
            results.append(result)
            yield result
        minutes = (time.monotonic() - start) / 60
        facts = [(study.name, study.summary) for study in studies]
        facts.append(("time", f"{minutes:.1f} minutes; what had been measured before was used."))
        if processes.is_first():
            write_document(folder, results, facts)
