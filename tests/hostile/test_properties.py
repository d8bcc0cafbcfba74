"""Whatever is read is accepted or refused in a sentence; what is accepted keeps what it promises.

The fuzzer of ``benchmarks`` makes structured inputs for every reader; a few of each run here.
"""

import json
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from nasalign.config import Settings, parse_assignments, settings_from_file
from nasalign.data.final_answers import after_hashes, after_sentence, in_box
from nasalign.data.numbers import vary_number
from nasalign.data.reading import Drop
from nasalign.data.records import BinaryExample, Question
from nasalign.data.user_file import load_file
from nasalign.data.values import same_value
from nasalign.errors import NasAlignError, visible
from nasalign.inference.verdicts import parse_final, parse_verdict
from nasalign.io.files import csv_text
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.wordings import VOCABULARIES

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fuzz


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """The sentence with which a call is refused, or an empty text."""
    try:
        call(*arguments)
    except (NasAlignError, Drop) as error:
        return str(error) or "no sentence"
    return ""


few = settings(max_examples=40, derandomize=True, deadline=None, database=None)
anything = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates too
texts = st.text(max_size=60)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | anything
jsons = st.recursive(
    scalars,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(texts, one, max_size=3),
    max_leaves=5,
)
columns = st.sampled_from(
    ["question", "answer", "context", "label", "aliases", "options", "id", "subject"]
)
BUILDERS = {
    style: PromptBuilder(tiny.build_tokenizer(style=style))  # type: ignore[arg-type]
    for style in ("bytelevel", "metaspace")
}


@pytest.mark.parametrize("target", [one for one in fuzz.targets() if one != "run files"])
def test_a_few_inputs_of_the_fuzzer(target: str) -> None:
    check, share = fuzz.targets()[target]
    outcome = fuzz.attack(target, check, round(20 * share) or 2, seed=100)
    assert outcome.crashed == 0, outcome.examples
    assert outcome.inputs == outcome.refused + outcome.accepted


def test_the_fuzzer_sees_a_crash() -> None:
    def crashes(make: fuzz.Maker, folder: Path) -> None:
        raise KeyError(make.text())

    assert fuzz.attack("broken", crashes, 3, seed=0).crashed == 3


@few
@given(rows=st.lists(st.dictionaries(columns, jsons, max_size=6), max_size=3))
def test_rows_of_a_user(tmp_path_factory: pytest.TempPathFactory, rows: list[dict]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    whole = {"question": "What?", "answer": "this"}
    path.write_text("".join(json.dumps(row) + "\n" for row in [whole, *rows]))
    said = refusal(load_file, path)
    assert str(path) in said if said else len(load_file(path)) == 1 + len(rows)


@few
@given(question=anything, answer=st.none() | anything, context=st.none() | anything)
@pytest.mark.parametrize("style", BUILDERS)
def test_the_words_of_the_instruction_are_located(
    style: str, question: str, answer: str | None, context: str | None
) -> None:
    builder = BUILDERS[style]
    plain = builder.binary(BinaryExample("What?", True))
    example = BinaryExample(question, True, answer, context)
    said = refusal(builder.binary, example)
    if said:
        assert "half a character" in said
        return
    prompt = builder.binary(example)
    for place in ("positive_position", "negative_position", "first_row", "answers"):
        assert getattr(prompt, place) == getattr(plain, place)
    marks = [[one for one in said.token_ids if one < 4] for said in (prompt, plain)]
    assert marks[0] == marks[1]


@few
@given(name=st.sampled_from([*Settings().as_dict()]) | anything, value=anything)
def test_settings_by_name(name: str, value: str) -> None:

    def change() -> None:
        changed = Settings().replace(parse_assignments([f"{name}={value}"]))
        json.dumps(changed.as_dict(), allow_nan=False)

    assert len(refusal(change)) < 3000


@few
@given(content=st.binary(max_size=60) | texts.map(str.encode))
def test_a_settings_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("settings") / "settings.toml"
    path.write_bytes(content)
    said = refusal(settings_from_file, path)
    assert not said or str(path) in said


SIGNS = st.text("0123456789.,/-+*^{}()[]\\ $%=ixπ²٣fracsqtboxed#", max_size=30)


@few
@given(left=SIGNS, right=SIGNS)
def test_values_and_numbers(left: str, right: str) -> None:
    assert same_value(left, right) == same_value(right, left)
    assert same_value(left, left)
    vary_number(left, right, random.Random(0))


@few
@given(seeds=st.lists(st.integers(0, 2**32), min_size=2, max_size=2))
def test_any_two_expressions_are_compared_soon(seeds: list[int]) -> None:
    left, right = (fuzz.Maker(str(seed)).expression(6) for seed in seeds)
    with fuzz.limited(10):
        start = time.process_time()
        assert same_value(left, right) == same_value(right, left)
        assert time.process_time() - start < 2


@few
@given(solution=texts | SIGNS)
def test_final_answers(solution: str) -> None:
    for take in (after_hashes, after_sentence, in_box):
        said = refusal(take, solution)
        assert re.search("no answer|not closed", said) if said else take(solution) in solution


@few
@given(before=texts, after=texts)
def test_verdicts(before: str, after: str) -> None:
    for words in VOCABULARIES.values():
        assert parse_verdict(before, words) in ("positive", "negative", "invalid")
        said = f"{before}\nAnswer: {words.negative}\n"
        assert parse_final(said, words) == "negative"
        assert parse_final(after, words) in ("positive", "negative", "invalid")


@few
@given(cells=st.lists(texts, min_size=1, max_size=3))
def test_tables_and_terminals(cells: list[str]) -> None:
    for line in csv_text(["a"], [{"a": cell} for cell in cells]).splitlines():
        assert not line.strip('"').startswith(("=", "+", "-", "@"))
    assert visible("".join(cells)).isprintable() or any(ord(one) > 126 for one in "".join(cells))


@few
@given(question=texts, answer=texts)
def test_asked_freely(question: str, answer: str) -> None:
    for builder in BUILDERS.values():
        ids = builder.parametric(Question(question, answer), answer)
        assert len(ids) > 10
