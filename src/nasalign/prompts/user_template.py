"""A prompt of the user's own: a message with placeholders, and a system message."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from nasalign.errors import PromptError, shortened
from nasalign.prompts.answer_tokens import has_no_spaces
from nasalign.prompts.wordings import Vocabulary

Part = Literal["system", "user"]
_PLACEHOLDER = re.compile(r"\{\{\s*([^\W\d][\w .-]*?)\s*\}\}|\{\s*([^\W\d][\w .-]*?)\s*\}")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[\u3002\uff01\uff1f]|(?=\n)")
_WORDS = ("positive", "negative", "unsure")
"""Placeholders that stand for the answer words."""
_KEYS = ("user", "system", "words")
"""What a template file of TOML or JSON may have."""


@dataclass(frozen=True)
class _Piece:
    """A part of a message as it is written: a text, or the name of a placeholder."""

    text: str
    named: bool
    start: int  # of its first character in the message


@dataclass(frozen=True)
class _Place:
    """Where an answer word stands in the template: a character of a piece of a message."""

    part: Part
    piece: int
    offset: int
    text: str  # the word as it is written there
    start: int  # of its first character in the message


@dataclass(frozen=True)
class Filled:
    """A template with the values of one example.

    Attributes:
        messages: the text of each message, the system message first.
        values: the span of characters of each value: its message, begin and end.
        words: of the positive and the negative word: its message, its first character there, and
            its text; None where the template does not name both.
        end: the message in which the later word stands, and the end of its sentence there.
    """

    messages: dict[Part, str]
    values: list[tuple[Part, int, int]]
    words: tuple[tuple[Part, int, str], tuple[Part, int, str]] | None = None
    end: tuple[Part, int] = ("user", 0)

    def joined(self) -> "Filled":
        """Return the same with the system message at the beginning of the user's message."""
        before = self.messages["system"] + "\n\n"
        shift: dict[Part, int] = {"system": 0, "user": len(before)}
        words: list[tuple[Part, int, str]] = [
            ("user", start + shift[part], text) for part, start, text in self.words or ()
        ]
        part, end = self.end
        return replace(
            self,
            messages={"user": before + self.messages["user"]},
            values=[
                ("user", begin + shift[one], stop + shift[one]) for one, begin, stop in self.values
            ],
            words=(words[0], words[1]) if words else None,
            end=("user", end + shift[part]),
        )


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt of the user's own.

    ``{question}``, ``{answer}``, ``{context}`` and the names of other columns are placeholders, in
    single or double braces; other braces are text. ``{positive}``, ``{negative}`` and ``{unsure}``
    stand for the answer words. If the first two are not used, the words are located in the text.

    Attributes:
        user: the user's message.
        system: the system message, or None.
        words: the answer words as ``Vocabulary.of`` reads them, or None where a file names none.

    Raises:
        PromptError: it has no placeholder for a column.
    """

    user: str
    system: str | None = None
    words: str | None = None

    def __post_init__(self) -> None:
        if not self.columns:
            raise PromptError(
                f"The template {shortened(self.user)} has no placeholder, such as {{question}}, so "
                "that every prompt would be the same."
            )

    @classmethod
    def read(cls, path: str | Path) -> "PromptTemplate":
        """Read a template: text, or TOML or JSON with ``user``, ``system`` and ``words``.

        Raises:
            PromptError: the file cannot be read, has another key, or has no placeholder.
        """
        path = Path(path)
        kind = path.suffix.lower()
        try:
            text = path.read_text(encoding="utf-8-sig")
            values: Any = {"user": text}
            if kind in (".toml", ".json"):
                values = tomllib.loads(text) if kind == ".toml" else json.loads(text)
        except OSError as error:
            raise PromptError(f"Cannot read the template {path}: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:300]
            what = kind[1:].upper() if kind in (".toml", ".json") else "UTF-8 text"
            raise PromptError(f"The template {path} is not valid {what}: {reason}.") from error
        if not isinstance(values, Mapping) or "user" not in values:
            raise PromptError(f"The template {path} needs a text called user.")
        for name, value in values.items():
            if name not in _KEYS:
                known = ", ".join(_KEYS)
                raise PromptError(
                    f"The template {path} has {shortened(str(name))}, which is none of {known}."
                )
            if not isinstance(value, str) or not value.strip():
                raise PromptError(f"In the template {path}, {name} is not a text.")
        stripped = {name: value.strip() for name, value in values.items()}
        return cls(**stripped)

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the template stands for."""
        given = {"template": self.user, "system": self.system, "vocabulary": self.words}
        return {name: value for name, value in given.items() if value is not None}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The placeholders, but for the answer words, in the order of their first use."""
        return tuple(name for name in self._named if name not in _WORDS)

    def fill(self, values: Mapping[str, str], words: Vocabulary) -> Filled:
        """Return the messages with an example's values in place of the placeholders.

        Raises:
            PromptError: a value is missing.
        """
        missing = [name for name in self.columns if name not in values]
        if missing:
            shown = shortened(next(iter(values.values()), ""))
            raise PromptError(
                f"The template names {{{missing[0]}}}, which the example {shown} does not have; it "
                f"has {', '.join(values)}."
            )
        said = {name: forms[0] for name, forms in zip(_WORDS, words.forms, strict=False)}
        if "unsure" in self._named and "unsure" not in said:
            raise PromptError(
                "The template names {unsure}, but the answer words have no third; give it with "
                "--words, such as Yes/No/Unsure."
            )
        given = {name: value.strip() for name, value in values.items()} | said
        messages: dict[Part, str] = {}
        starts: dict[Part, list[int]] = {}
        spans: list[tuple[Part, int, int]] = []
        for part, pieces in self._pieces.items():
            texts = [given.get(one.text, "") if one.named else one.text for one in pieces]
            starts[part] = list(accumulate(map(len, texts), initial=0))
            messages[part] = "".join(texts)
            spans += [
                (part, start, start + len(text))
                for start, text, one in zip(starts[part], texts, pieces, strict=False)
                if one.named and one.text not in _WORDS
            ]
        places = self.places(words)
        if places is None:
            return Filled(messages, spans)
        yes, no = ((at.part, starts[at.part][at.piece] + at.offset, at.text) for at in places)
        last = max(places, key=lambda at: (at.part == "user", at.start))
        return Filled(messages, spans, (yes, no), self._sentence_end(last, starts[last.part]))

    def places(self, words: Vocabulary) -> tuple[_Place, _Place] | None:
        """Return where the positive and the negative word stand, or None if not both do.

        They are where ``{positive}`` and ``{negative}`` are. Without these, they are the two words
        in one message that stand nearest to each other, outside of placeholders; of several such
        pairs the first. Each word stands alone, in one of its forms as it is written, or else in
        capitals or in small letters.
        """
        marked = {"positive", "negative"} <= self._named.keys()
        pairs = [
            (abs(yes.start - no.start), yes, no)
            for part in self._pieces
            for yes in self._found(part, "positive", words.positives, marked)
            for no in self._found(part, "negative", words.negatives, marked)
        ]
        return min(pairs, key=lambda pair: pair[0])[1:] if pairs else None

    def sentence(self, words: Vocabulary) -> str:
        """Return a sentence on where the answer words were located."""
        places = self.places(words)
        if places is None:
            return (
                f"The template does not name both {words.positive} and {words.negative}, so NAS is "
                "not measured; it can be evaluated, calibrated, and tuned by nasa+."
            )
        yes, no = (self._shown(place) for place in places)
        return (
            f"The answer words are located at {yes} and {no}; mark other places with {{positive}} "
            "and {negative}."
        )

    @cached_property
    def _named(self) -> dict[str, None]:
        """The names of all placeholders, in the order of their first use."""
        every = (piece for pieces in self._pieces.values() for piece in pieces)
        return dict.fromkeys(piece.text for piece in every if piece.named)

    @cached_property
    def _pieces(self) -> dict[Part, list[_Piece]]:
        """The pieces of each message, the system message first."""
        parts: dict[Part, str] = {"system": self.system or "", "user": self.user}
        return {part: _split(text.strip()) for part, text in parts.items() if text.strip()}

    def _found(self, part: Part, name: str, forms: tuple[str, ...], marked: bool) -> list[_Place]:
        """Where a word stands in a message."""
        pieces = list(enumerate(self._pieces[part]))
        if marked:
            return [
                _Place(part, index, 0, forms[0], piece.start)
                for index, piece in pieces
                if piece.named and piece.text == name
            ]
        ways = (str, str.upper, str.capitalize, str.lower)
        for form in dict.fromkeys(way(form) for way in ways for form in forms):
            found = [
                _Place(part, index, offset, form, piece.start + offset)
                for index, piece in pieces
                if not piece.named
                for offset in _standing(form, piece.text)
            ]
            if found:
                return found
        return []

    def _sentence_end(self, place: _Place, starts: list[int]) -> tuple[Part, int]:
        """The end of the sentence in which a word stands, at the latest before a placeholder."""
        pieces = self._pieces[place.part]
        index, offset = place.piece, place.offset + len(place.text)
        if pieces[index].named:  # the word is marked; what follows it is another piece
            index, offset = index + 1, 0
            if index == len(pieces) or pieces[index].named:
                return place.part, starts[place.piece] + len(place.text)
        text = pieces[index].text
        end = _SENTENCE_END.search(text, offset)
        return place.part, starts[index] + (end.end() if end else max(offset, len(text.rstrip())))

    def _shown(self, place: _Place) -> str:
        """A word with what stands around it in the template."""
        text = ((self.system or "") if place.part == "system" else self.user).strip()
        size = len(place.text)
        if text[place.start : place.start + size] != place.text:  # it is marked
            size = text.index("}", place.start) + 1 - place.start
        before, after = text[: place.start][-25:], text[place.start + size :][:15]
        return f'"{" ".join(f"{before}[{place.text}]{after}".split())}"'


def _split(text: str) -> list[_Piece]:
    pieces, at = [], 0
    for found in _PLACEHOLDER.finditer(text):
        pieces.append(_Piece(text[at : found.start()], False, at))
        pieces.append(_Piece(str(found[1] or found[2]), True, found.start()))
        at = found.end()
    return [piece for piece in [*pieces, _Piece(text[at:], False, at)] if piece.text]


def _standing(word: str, text: str) -> list[int]:
    """Where a word stands alone; in a script without spaces anywhere, if it nowhere does."""

    def is_alone(start: int) -> bool:
        around = text[max(0, start - 1) : start], text[start + len(word) : start + len(word) + 1]
        return not any(sign.isalnum() or sign == "_" for sign in around)

    every = [found.start() for found in re.finditer(re.escape(word), text)]
    return [start for start in every if is_alone(start)] or (every if has_no_spaces(word) else [])
