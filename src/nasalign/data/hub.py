"""The hub: whether it answers, asked once and briefly; and the rows of its data sets."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

from nasalign.data.reading import Row, numbered
from nasalign.data.row_files import label_names, with_names
from nasalign.errors import DataError

_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+){0,2}")


def silence_of_the_hub(name: str, *, dataset: bool = False) -> str:
    """Return why the hub does not answer for a model or data set; empty if it does.

    Any answer will do, and with ``HF_HUB_OFFLINE`` the hub is not asked.
    """
    if constants.HF_HUB_OFFLINE:
        return ""
    hub = HfApi()
    ask = hub.dataset_info if dataset else hub.model_info
    try:
        ask(name, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return ""
    except Exception as error:  # its client has had three libraries, each with errors of its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"the hub ({constants.ENDPOINT}) does not answer: {reason[0]}"
    return ""


def how_to_be_let_in(name: str, error: BaseException) -> str:
    """Return how to get a model that the hub holds back; empty if ``error`` is another one."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, GatedRepoError):
        at = at.__cause__ or at.__context__
    if at is None:
        return ""
    return (
        f"it is gated; accept its terms at {constants.ENDPOINT}/{name}, and log in with "
        "`hf auth login` or set HF_TOKEN."
    )


def hub_rows(name: str, revision: str | None = None) -> Iterator[Row]:
    """Stream the rows of ``OWNER/NAME``, with ``/CONFIGURATION/SPLIT`` where it has several.

    Raises:
        DataError: there is no such data set, or it is not clear what of it is meant.
    """
    path, parts = Path(name), name.split("/")
    near = (one for one in path.parents[:2] if one.name and (one / "README.md").exists())
    folder = path if path.is_dir() else next(near, None)  # of the hub's layout
    if not folder and not _ID.fullmatch(name):
        raise DataError(f"There is no data {name!r}: it is neither a file nor a folder.")
    import datasets

    place = str(folder or "/".join(parts[:2]))
    rest = list(path.relative_to(folder).parts) if folder else parts[2:]
    silence = "" if folder else silence_of_the_hub(place, dataset=True)
    if silence:
        raise DataError(f"There is no file {name}, and as a data set it cannot be read: {silence}.")
    try:
        configs = datasets.get_dataset_config_names(place, revision=revision)
        config = _chosen(place, "configuration", configs, rest)
        splits = datasets.get_dataset_split_names(place, config, revision=revision)
        split = _chosen(place, "split", splits, rest)
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"There is no file {name}, and as a data set it cannot be read: {reason}"
        ) from error
    if rest:
        raise DataError(f"The data set {place} has no configuration or split {rest[0]!r}.")
    yield from numbered(stream(place, config, split, revision, place, named=True))


def _chosen(place: str, what: str, known: Sequence[str], rest: list[str]) -> str:
    """The first part of the rest of a name, where it is a known one; else the only one."""
    if rest and rest[0] in known:
        return rest.pop(0)
    if len(known) == 1 or (what == "configuration" and "default" in known):
        return "default" if "default" in known else known[0]
    raise DataError(f"{place} has the {what}s {', '.join(known)}; name one, as {place}/{known[0]}.")


def stream(
    place: str,
    config: str | None,
    split: str,
    revision: str | None,
    name: str,
    hint: str = "",
    *,
    named: bool = False,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the places and values of the rows of a split.

    Args:
        place: id of the data set, or a folder in the hub's layout.
        config: its configuration, if it has several.
        split: its split.
        revision: its commit; the newest if None.
        name: what it is called in messages.
        hint: what to do if it cannot be read.
        named: whether values of class labels are replaced by their names.

    Raises:
        DataError: it cannot be read.
    """
    import datasets  # takes a second, and only this needs it

    datasets.disable_progress_bars()
    part = "/".join(filter(None, (place, config, split)))
    try:
        rows = datasets.load_dataset(place, config, split=split, revision=revision, streaming=True)
        names = label_names(getattr(rows, "features", None)) if named else {}
        for number, values in enumerate(rows, start=1):
            yield f"{part}, row {number}", with_names(values, names)
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"The data set {name} cannot be read from {part}: {reason}{hint}"
        ) from error
