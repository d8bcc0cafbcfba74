"""Prompts I and II of the product's rows, written out, and where their words stand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FILES = {
    "strategyqa": "*strategyqa*",
    "musique": "*musique*",
    "gsm8k": "*gsm8k*",
    "math": "math*",
    "ar-lsat": "ar*lsat*",
}
"""What the published files are called."""


def files_of(data: Path, name: str) -> list[Path]:
    """The published files of a data set."""
    found = sorted(data.glob(f"{FILES[name.removesuffix('-rephrased')]}.json*"))
    assert found, f"{data} has no file of {name}"
    return found


def upstream(data: Path, name: str) -> Iterator[Row]:
    """Yields the rows of a data set's published files."""
    for path in files_of(data, name):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            yield from (json.loads(line) for line in text.splitlines() if line.strip())
        else:
            yield from json.loads(text)


@cache
def contexts(data: Path, name: str, supporting: bool) -> dict[str, str]:
    """Contexts by the id of a question, as Table 14 prints them."""
    found: dict[str, str] = {}
    for row in upstream(data, name):
        if name == "strategyqa":
            found[row["qid"]] = " ".join(fact.strip() for fact in row["facts"])
        elif name == "musique":
            parts = [one for one in row["paragraphs"] if one["is_supporting"] or not supporting]
            found[row["id"]] = " ".join(
                f"[Title: {one['title']}] {one['paragraph_text']}" for one in parts
            )
        elif name == "ar-lsat":
            found |= {question["id"]: row["passage"] for question in row["questions"]}
    return found


@dataclass(frozen=True)
class Wording:
    """An instruction and its two words."""

    instruction: str
    positive: str = "Yes"
    negative: str = "No"

    @property
    def written(self) -> str:
        """The instruction with these words in place of Yes and No."""
        before, _, after = self.instruction.partition("Yes or No")
        return f"{before}{self.positive} or {self.negative}{after}"


def prompt_one(wording: Wording, row: Row, context: str | None, examples: str = "") -> str:
    """Prompt I; a yes/no question has no ``Is the answer ...?``."""
    given = f"Context: {context} " if context else ""
    verify = "" if row.get("answer") is None else f" Is the answer {row['answer']}?"
    return f"{wording.written} {examples}{given}Question: {row['question']}{verify} Answer:"


def prompt_two(instruction: str, question: str, context: str | None, options: list[str]) -> str:
    """Prompt II; options are lettered as in Table 14."""
    given = f"Context: {context} " if context else ""
    lettered = "".join(f" ({chr(65 + place)}) {text}" for place, text in enumerate(options))
    return f"{instruction} {given}Question: {question}{lettered} Answer:"


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it: its tokens, t_Yes, t_No, and the first row of Eq. 1."""

    ids: list[int]
    yes: int
    no: int
    first_row: int


def tokens_of(tokenizer: Any, prompt: str, wording: Wording, literal_row: bool = False) -> Tokens:
    """Encodes a prompt as the user's turn and looks for the words in its instruction.

    With ``literal_row``, the sum begins at the instruction's last token (i = L_I, from 1).
    """
    text = as_turn(tokenizer, prompt)
    start = text.index(prompt)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]

    def at(character: int) -> int:
        return next(i for i, (begin, end) in enumerate(spans) if begin <= character < end)

    instruction = wording.written
    yes = start + instruction.index(f"{wording.positive} or {wording.negative}")
    no = yes + len(f"{wording.positive} or ")
    row = at(start + len(instruction) - 1) + (0 if literal_row else 1)
    return Tokens(list(encoded["input_ids"]), at(yes), at(no), row)


def as_turn(tokenizer: Any, prompt: str) -> str:
    """The prompt as the user's message of the chat template."""
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
