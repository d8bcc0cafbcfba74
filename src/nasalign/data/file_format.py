"""How a user's file is to be read: ``--columns``, ``--labels``, ``--group-by`` and ``--strict``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasalign.errors import DataError, shortened

OURS = (
    "question",
    "answer",
    "label",
    "context",
    "aliases",
    "wrong_answer",
    "options",
    "subject",
    "id",
)
"""The columns that are read."""
Labels = tuple[tuple[str, ...], ...]
"""Spellings of Yes, of No, and perhaps of what is neither; empty: no answer is a verdict."""
_NEXT = re.compile(rf",(?=\s*(?:{'|'.join(OURS)})\s*=)")


@dataclass(frozen=True)
class FileFormat:
    """How a user's file is to be read.

    Attributes:
        columns: the file's column for one of ours; an empty name says that there is none.
        labels: spellings of Yes, of No, and perhaps of what is neither; told from the file if None.
        group_by: the file's column by which rows are split: rows of one value stay together.
        strict: whether a row that does not fit stops the command; else it is left out and counted.
        placeholders: columns that a user's own prompt template names.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Labels | None = None
    group_by: str | None = None
    strict: bool = False
    placeholders: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        columns: Sequence[str] = (),
        labels: str | None = None,
        group_by: str | None = None,
        strict: bool = False,
    ) -> "FileFormat":
        """Return the format that options of the command line describe.

        Args:
            columns: texts such as ``question=claim,context=evidence``; ``context=`` says none.
            labels: such as ``SUPPORTS/REFUTES`` or ``Yes|True/No|False/Maybe``, or ``none``.
            group_by: a column.
            strict: see above.

        Raises:
            DataError: an option does not have this form.
        """
        if group_by is not None and not group_by.strip():
            raise DataError("--group-by needs the name of a column.")
        return cls(_columns(columns), _labels(labels), group_by, strict)

    def __post_init__(self) -> None:
        for ours in self.columns:
            if ours not in OURS:
                raise DataError(f"--columns has no column {ours!r}; it takes {', '.join(OURS)}.")
        named = [name for name in self.columns.values() if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise DataError(f"--columns reads {twice[0]!r} twice; a column is read as one.")
        if self.group_by and self.columns.get("subject"):
            raise DataError("--group-by and --columns subject= say the same; give one of them.")
        _check(self.labels)

    @property
    def facts(self) -> dict[str, Any]:
        """What differs from the default, for ``run.json``."""
        labels = "/".join("|".join(forms) for forms in self.labels or ()) or "none"
        every = {
            "columns": dict(self.columns),
            "labels": None if self.labels is None else labels,
            "group_by": self.group_by,
            "strict": self.strict,
        }
        return {name: value for name, value in every.items() if value}


def _columns(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in (part for text in given for part in _NEXT.split(text)):
        ours, equals, name = part.partition("=")
        ours, name = ours.strip().casefold().replace(" ", "_"), name.strip()
        if not equals or not ours:
            raise DataError(
                f"--columns has {shortened(part)}; it looks like question=claim,context=evidence."
            )
        if found.setdefault(ours, name) != name:
            raise DataError(f"--columns names two columns for {ours}; give one.")
    return found


def _labels(text: str | None) -> Labels | None:
    if text is None:
        return None
    if text.strip().casefold() == "none":
        return ()
    return tuple(
        tuple(form.strip() for form in side.split("|") if form.strip()) for side in text.split("/")
    )


def _check(labels: Labels | None) -> None:
    if not labels:
        return
    folded = [form.casefold() for side in labels for form in side]
    if len(labels) not in (2, 3) or not all(labels) or len(set(folded)) < len(folded):
        raise DataError(
            "--labels takes what means Yes and what means No, and perhaps a third value that is "
            "neither, each with different spellings: SUPPORTS/REFUTES, Yes|True/No|False/Maybe, or "
            "none where no answer is a verdict."
        )
