"""What was compared with what, one line a comparison."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

Triple = tuple[str, Any, Any]
"""Name of a value, the product's value, and the literal one."""


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        item: of the paper, such as ``"Table 3"``.
        about: what was compared with what.
        verdict: ``ok``, ``differs`` or ``not compared``.
        values: number of compared values.
        difference: the largest difference; None for texts and other values that are equal or not.
        worst: the value with it, or why nothing was compared.
    """

    item: str
    about: str
    verdict: str
    values: int = 0
    difference: float | None = None
    worst: str = ""

    def line(self) -> str:
        size = "" if self.difference is None else f", largest difference {self.difference:.2g}"
        worst = f" ({self.worst})" if self.worst and self.verdict != "ok" else ""
        return f"{self.item:<12} {self.verdict:<12} {self.about}: {self.values} values{size}{worst}"


@dataclass
class Findings:
    """Collects comparisons and prints each as it is made."""

    quiet: bool = False
    made: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        self.made.append(finding)
        if not self.quiet:
            print(finding.line(), flush=True)

    def close(
        self, item: str, about: str, triples: Iterable[Triple], within: float, scale: bool = False
    ) -> None:
        """Compares numbers; with ``scale``, by their difference divided by the literal value."""
        worst, name, count = 0.0, "", 0
        for label, seen, wanted in triples:
            count += 1
            size = _difference(seen, wanted, scale)
            if size > worst or math.isnan(size):
                worst, name = size, f"{label}: {seen} against {wanted}"
            if math.isnan(size):
                worst = math.inf
        self._add(item, about, worst <= within, count, worst, name)

    def same(self, item: str, about: str, triples: Iterable[Triple]) -> None:
        """Compares texts, counts and decisions, which are equal or not."""
        count, name = 0, ""
        for label, seen, wanted in triples:
            count += 1
            if seen != wanted and not name:
                name = f"{label}: {_short(seen)} against {_short(wanted)}"
        self._add(item, about, not name, count, None, name)

    def missing(self, item: str, about: str, why: str) -> None:
        """Notes that something could not be compared."""
        self.add(Finding(item, about, "not compared", worst=why))

    def _add(
        self, item: str, about: str, fine: bool, count: int, size: float | None, worst: str
    ) -> None:
        if count == 0:
            self.missing(item, about, "there is no value")
            return
        self.add(Finding(item, about, "ok" if fine else "differs", count, size, worst))

    @property
    def differ(self) -> list[Finding]:
        return [one for one in self.made if one.verdict == "differs"]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in self.made]


def _difference(seen: Any, wanted: Any, scale: bool) -> float:
    """The absolute or relative difference; 0 of two empty values, infinite of one."""
    blank = [one is None or one == "" or _is_nan(one) for one in (seen, wanted)]
    if any(blank):
        return 0.0 if all(blank) else math.inf
    seen, wanted = float(seen), float(wanted)
    if seen == wanted:
        return 0.0
    size = abs(seen - wanted)
    return size / max(abs(wanted), 1e-12) if scale else size


def _is_nan(value: Any) -> bool:
    return value == "nan" or (isinstance(value, float) and math.isnan(value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:160] + "..."
