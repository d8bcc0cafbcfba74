"""The paper's data sets: which files of a folder hold them, and what stands in for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from nasalign.errors import DataError

PAPER_SETS = ("strategyqa", "musique", "gsm8k-rephrased", "math-rephrased", "ar-lsat")
"""The evaluated sets of Tables 3 and 4, by their names in ``data.sources.SOURCES``."""
DOMAINS = ("strategyqa", "gsm8k-rephrased", "ar-lsat")
"""The three domains of Tables 1, 2, 7 and 9."""
SHORT_ANSWERS = ("musique", "gsm8k-rephrased", "ar-lsat")
"""The sets whose questions are also asked freely (Tables 5 and 16 to 18)."""
PROBING = "hotpotqa"

_STAND_INS = {"gsm8k-rephrased": "gsm8k", "math-rephrased": "math", PROBING: "facts"}
_FILES = {  # how the files that the data are published in are called
    "hotpotqa": ("*hotpot*",),
    "strategyqa": ("*strategyqa*",),
    "musique": ("*musique*",),
    "gsm8k-rephrased": ("*metamath*",),
    "math-rephrased": ("*metamath*",),
    "gsm8k": ("*gsm8k*",),
    "math": ("math*", "*hendrycks*"),
    "ar-lsat": ("*ar*lsat*",),
}


@dataclass(frozen=True)
class PaperSet:
    """Where a data set of the paper is read from.

    Attributes:
        name: its name in the paper's tables.
        data: the data set that is read, which may be a stand-in.
        files: its local files; the hub if there are none.
    """

    name: str
    data: str
    files: tuple[Path, ...] = ()

    @property
    def note(self) -> str:
        """Say that something stands in, or nothing."""
        return f"{self.data} stands in for {self.name}." if self.data != self.name else ""


def paper_sets(folder: Path | None) -> dict[str, PaperSet]:
    """Return the sets of the paper and the probing set by name.

    Args:
        folder: local files as they are published; without it all is read from the hub.

    Raises:
        DataError: the folder is not there, or a set has neither a file nor a stand-in in it.
    """
    names = (*PAPER_SETS, PROBING)
    if folder is None:
        return {name: PaperSet(name, name) for name in names}
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    found = {name: _find(folder, patterns) for name, patterns in _FILES.items()}
    sets = {}
    for name in names:
        choice = next((one for one in (name, _STAND_INS.get(name, "")) if found.get(one)), None)
        if choice is None and name == PROBING:
            choice = _STAND_INS[PROBING]  # the facts need no file
        if choice is None:
            wanted = " or ".join(_FILES[name] + _FILES.get(_STAND_INS.get(name, ""), ()))
            raise DataError(f"{folder} has no file of {name}; it would be called {wanted}.")
        sets[name] = PaperSet(name, choice, found.get(choice, ()))
    return sets


def _find(folder: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".jsonl", ".csv")
        and any(fnmatch(path.stem.lower(), pattern) for pattern in patterns)
    )
