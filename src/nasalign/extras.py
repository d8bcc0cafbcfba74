"""Optional packages, by the extra of ``pip install`` that installs them."""

from dataclasses import dataclass
from importlib.util import find_spec

from nasalign.errors import NasAlignError


@dataclass(frozen=True)
class Extra:
    """The modules of an extra, and what needs them."""

    modules: tuple[str, ...]
    purpose: str  # the subject of a sentence
    many: bool = False  # whether that is a plural


EXTRAS = {
    "plots": Extra(("altair", "vl_convert"), "The charts of reports and figures", many=True),
    "judge": Extra(("openai",), "A language model as judge or as writer of wrong answers"),
    "quant": Extra(("bitsandbytes",), "A model in 8 or 4 bits"),
    "serve": Extra(("fastapi", "uvicorn"), "The web page"),
}


def missing(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra].modules if find_spec(name) is None]


def lack(extra: str) -> str:
    """Return a sentence on missing modules of an extra and how to install them, or ""."""
    absent, about = missing(extra), EXTRAS[extra]
    if not absent:
        return ""
    need = "need" if about.many else "needs"
    return f'{about.purpose} {need} {" and ".join(absent)}: pip install "nasalign[{extra}]".'


def require(extra: str) -> None:
    """Raise NasAlignError with the command that installs an extra, if it is not installed."""
    if sentence := lack(extra):
        raise NasAlignError(sentence)


TRACKERS = ("trackio", "wandb")
"""Packages that ``--track`` takes; each is installed by its own name."""


def check_tracker(name: str | None) -> None:
    """Raise NasAlignError if the package that is to track a run is not installed."""
    if name in TRACKERS and find_spec(name) is None:
        raise NasAlignError(f"--track {name} needs the package {name}: pip install {name}.")
