"""Making the paper's tables and figures for some models."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from nasalign.errors import NasAlignError, StorageError, did_you_mean
from nasalign.io.locks import one_run_in
from nasalign.io.storage import check_no_links, sweep
from nasalign.models import processes
from nasalign.models.memory import explained
from nasalign.progress import Reporter
from nasalign.reproduction import figures, paper_tables, statistics
from nasalign.reproduction.document import write_document, write_result
from nasalign.reproduction.result import Result
from nasalign.reproduction.study import Study

PAPER = (
    *("sides=one", "context=supporting", "probing_questions=2000"),
    *("learning_rate=4e-4", "line_search=false"),
)
"""Settings of the paper, and the rate of our figures, unless they are set otherwise."""


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
                f"{did_you_mean(given.lower(), ['all', *ITEMS])}"
            )
        found.append(name)
    return list(dict.fromkeys(found))


def make_items(
    studies: Sequence[Study], names: Sequence[str], folder: Path, reporter: Reporter
) -> Iterator[Result]:
    """Make items, write each as soon as it is measured, and end in one document.

    One model after the other is measured for all items and freed, so that memory holds one; after
    each, the items are those of the models so far. Yielded are the items of all models. What a
    model cannot be measured for is said, and the item is made of the other models; it stands in the
    document with the reason. Of several processes, the first one writes and yields.

    Raises:
        StorageError: the folder holds a link, another process is at work in it, or it cannot be
            written.
    """
    first, start = processes.is_first(), time.monotonic()
    with _only_here(folder, reporter) if first else nullcontext():
        failures: dict[str, dict[str, str]] = {name: {} for name in names}
        results: dict[str, Result] = {}
        for number, study in enumerate(studies, start=1):
            for place, name in enumerate(names, start=1):
                reporter.say(f"{study.name}: {name} ({place} of {len(names)})")
                result = _made(name, studies[:number], failures[name], reporter)
                results[name] = result
                if first and not result.failure:
                    write_result(folder, result)
                    if number == len(studies):
                        yield result
            study.close()
            if first:
                minutes = (time.monotonic() - start) / 60
                stores = [one.store for one in studies[:number] if one.store.measured]
                facts = [(store.name, store.summary) for store in stores]
                facts.append(
                    ("time", f"{minutes:.1f} minutes; what had been measured before was used.")
                )
                write_document(folder, list(results.values()), facts)


@contextmanager
def _only_here(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Keep other commands out of the folder, and remove what one that was killed has left."""
    check_no_links(folder)
    with one_run_in(folder, reporter.say):
        sweep(folder)
        yield


def _made(
    name: str, studies: Sequence[Study], failed: dict[str, str], reporter: Reporter
) -> Result:
    """Make an item of studies, of which the last is measured; the others are read.

    ``failed`` has, by model, why this item cannot be made of it; the last one may be added.
    """
    *before, study = studies
    good = [one for one in before if one.name not in failed]
    try:
        with explained(f"measuring {study.name} for {name}"):
            result = ITEMS[name]([*good, study])
    except StorageError:  # the next item could not be written either
        raise
    except NasAlignError as error:
        failed[study.name] = str(error)
        reporter.say(f"{name} cannot be made of {study.name}: {error}")
        if not good:
            return Result(name, failure=" ".join(failed.values()))
        result = ITEMS[name](good)
    result.missing.extend(f"{model}: {reason}" for model, reason in failed.items())
    result.notes.extend(f"Missing is {one}" for one in result.missing)
    return result
