"""Packages that only some commands need, by the extra of ``pip install`` that brings them."""

from dataclasses import dataclass
from importlib.util import find_spec

from nasalign.errors import NasAlignError


@dataclass(frozen=True)
class Extra:
    """What an extra brings.

    Attributes:
        modules: as they are imported.
        purpose: what needs them, as the beginning of a sentence.
        many: whether the purpose is in the plural.
    """

    modules: tuple[str, ...]
    purpose: str
    many: bool = False


EXTRAS = {
    "plots": Extra(("altair", "vl_convert"), "The charts of reports and figures", many=True),
    "judge": Extra(("openai",), "A language model as judge or as writer of wrong answers"),
    "quant": Extra(("bitsandbytes",), "A model in 8 or 4 bits"),
    "rivals": Extra(("trl",), "LoRA beside ours in a comparison"),
    "serve": Extra(("fastapi", "uvicorn"), "The web page"),
}


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra].modules if find_spec(name) is None]


def lack(extra: str) -> str:
    """Returns a sentence on what an extra lacks and how to get it, or nothing."""
    absent, about = missing(extra), EXTRAS[extra]
    if not absent:
        return ""
    need = "need" if about.many else "needs"
    return f'{about.purpose} {need} {" and ".join(absent)}: pip install "nasalign[{extra}]".'


def require(extra: str) -> None:
    """Checks that an extra is installed, without importing it.

    Raises:
        NasAlignError: it is not; the sentence has the command that installs it.
    """
    sentence = lack(extra)
    if sentence:
        raise NasAlignError(sentence)
