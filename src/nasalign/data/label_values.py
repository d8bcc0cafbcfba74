"""Whether the cells of a column are verdicts: decided over the whole file, and said.

The words Yes and No of some languages, 1 and 0, and the labels of usual data sets have a known
meaning. Others have to be named (``--labels``): of "toxic" and "not toxic", nobody but the user
knows which of them the model is to affirm.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from nasalign.data.file_format import Labels
from nasalign.data.reading import parts_of
from nasalign.data.records import package_table
from nasalign.errors import DataError, shortened

Sign = Literal["yes", "no", "neither"]
_ORDER: tuple[Sign, ...] = ("yes", "no", "neither")
_WORDS = package_table("verdict_words.csv")
_SIGNS = {row["word"]: cast(Sign, row["sign"]) for row in _WORDS}
CORE = {row["word"]: _SIGNS[row["word"]] for row in _WORDS if not row["also"]}
"""What is no short answer where a column has both; "pass" and "si" may be one."""
_PHRASE = re.compile(
    r"([^\W\d_]+)(?:[^\w\s'/-]+\s*(?=[^\W\d])|\s+-+\s+(?=[^\W\d])"
    r"|\s+(?=(?:it|he|she|they|this|that|there|i|we|you)\b))",
    re.IGNORECASE,
)
"""How an answer begins that says more than Yes or No."""
_LISTED = 8


def plain_value(value: Any) -> str:
    """Return a cell as it is compared: ``"Yes."``, ``1.0`` and ``NOT_RELEVANT`` in one form."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | dict):  # too deep a one cannot even be shown
        return "a list or an object"
    text = unicodedata.normalize("NFKC", str(value)).casefold().strip(" \t\n\"'`*.!\u3002")
    if is_number(text):
        return text[:1] if text in ("1.0", "0.0") else text
    return re.sub(r"[\s_\-]+", " ", text).strip() or str(value).strip().casefold()


def _beginning(value: Any) -> str:
    """The first word of "Yes, it is ...", if that is a word for Yes or No."""
    found = _PHRASE.match(value.strip()) if isinstance(value, str) else None
    word = plain_value(found[1]) if found else ""
    return word if word in CORE else ""


def is_number(value: str) -> bool:
    """Whether a cell is a number, in the form of ``plain_value``."""
    try:
        float(value.replace(",", "."))
    except ValueError:
        return False
    return True


@dataclass
class LabelValues:
    """What the cells of a column mean.

    Attributes:
        path: of the file, for messages.
        column: its name.
        labels: spellings that the user has given, or None.
        signs: what each cell means that is a verdict or neither, in the form of ``plain_value``.
        seen: rows by cell, in this form.
        spelt: a cell as the file writes it, by this form.
        mixed: whether cells that are no verdicts are short answers.
    """

    path: str
    column: str
    labels: Labels | None = None
    signs: dict[str, Sign] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    spelt: dict[str, str] = field(default_factory=dict)
    mixed: bool = False

    def __post_init__(self) -> None:
        sides = zip(_ORDER, self.labels or (), strict=False)
        self._given = {plain_value(form): sign for sign, forms in sides for form in forms}

    def add(self, cell: Any) -> None:
        """Count a cell."""
        plain = self.plain(cell)
        self.seen[plain] += 1
        self.spelt.setdefault(plain, plain if isinstance(cell, list | dict) else str(cell))

    def plain(self, cell: Any) -> str:
        """Return a cell in the form in which cells are counted; of "Yes, ..." the first word."""
        cell = first_of(cell)
        plain = plain_value(cell)
        return plain if plain in self._given else _beginning(cell) or plain

    @property
    def known(self) -> dict[str, Sign]:
        """What the cells mean that have a known meaning."""
        every = self._given or _SIGNS
        found = {cell: every[cell] for cell in self.seen if cell in every}
        if "nei" in found and not self._given and "ja" not in found:
            found["nei"] = "neither"  # it is no Norwegian No then, but "not enough info"
        return found

    def rows(self, *signs: Sign | None) -> int:
        """Return how many rows have one of some meanings; None is that of any other cell."""
        known = self.known
        return sum(count for cell, count in self.seen.items() if known.get(cell) in signs)

    def sign(self, cell: Any) -> Sign | None:
        """Return what a cell means, or None where it is no verdict."""
        return self.signs.get(self.plain(cell))

    def is_given(self, cell: Any) -> bool:
        """Whether a cell is one of the spellings that the user has given."""
        return self.plain(cell) in self._given

    def sentence(self, used: Mapping[str, int]) -> str:
        """Return what was recognised, with the number of rows that were read so."""
        said = {cell: self.signs.get(cell, CORE.get(cell)) for cell in used}
        order = sorted(used, key=lambda cell: (said[cell] != "yes", -used[cell]))
        parts = [
            f"{shortened(self.spelt[cell], 40)} as {str(said[cell]).title()} ({used[cell]})"
            for cell in order
        ]
        what = "short answers and verdicts" if self.mixed else "verdicts"
        neither = [cell for cell, sign in self.signs.items() if sign == "neither"]
        left_out = [f"{shortened(self.spelt[one], 40)} ({self.seen[one]})" for one in neither]
        others = (
            f"; neither, and left out: {_listed(left_out)}" if neither and not self.mixed else ""
        )
        return f"The column {self.column} holds {what}: {_listed(parts)}{others}."

    def refusal(self, why: str, ways: str) -> DataError:
        """Return the error that says what the column holds, and the ways out."""
        common = ", ".join(
            f"{shortened(self.spelt[cell], 40)} ({count})"
            for cell, count in self.seen.most_common(_LISTED)
        )
        return DataError(f"{self.path}: {why} (its column {self.column} holds {common}); {ways}.")

    def shown(self, cell: Any) -> str:
        """Return a cell for messages."""
        return self.plain(cell) if isinstance(cell, list | dict) else str(cell)

    def counts(self, used: Mapping[str, int]) -> dict[str, int]:
        """Return the number of rows by verdict, of those that were read so."""
        found: Counter[str] = Counter()
        for cell, count in used.items():
            found[str(self.signs.get(cell, CORE.get(cell)))] += count
        return dict(found)

    def form(self) -> str:
        """Return an option by which the cells could be read, as far as their meaning is known."""
        known, sides = self.known, dict[Sign, list[str]]()
        for cell, _ in self.seen.most_common(_LISTED):
            sides.setdefault(known.get(cell, "neither"), []).append(self.spelt[cell])
        if len(sides) == 3 or sides.keys() == {"yes", "no"}:
            return "/".join("|".join(sides[sign]) for sign in _ORDER if sign in sides)
        cells = [self.spelt[cell] for cell, _ in self.seen.most_common(2)]
        return "/".join([*cells, "OTHER"][:2])


def _listed(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return ", ".join(parts[:_LISTED]) + more


def first_of(cell: Any) -> Any:
    """Return the first answer of a list of answers; any other cell as it is."""
    parts = parts_of(cell)
    return parts[0] if isinstance(parts, list) and parts else cell


def counted(cells: Iterable[Any], values: LabelValues) -> LabelValues:
    """Count the cells of a column."""
    for cell in cells:
        values.add(cell)
    return values


def is_verdict_word(text: str) -> bool:
    """Whether a text is a word for Yes or No."""
    return plain_value(text) in CORE
