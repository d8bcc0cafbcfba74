"""Whatever is read is accepted or refused in a sentence; what is accepted keeps what it promises.

The fuzzer of ``benchmarks`` makes structured inputs for every reader; a few of each run here.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz
from nasalign.errors import visible
from nasalign.io.files import csv_text


@pytest.mark.parametrize("target", [one for one in fuzz.targets() if one != "run files"])
def test_a_few_inputs_of_the_fuzzer(target: str) -> None:
    check, share = fuzz.targets()[target]
    outcome = fuzz.attack(target, check, round(30 * share) or 2, seed=100)
    assert outcome.crashed == 0, outcome.examples
    assert outcome.inputs == outcome.refused + outcome.accepted


def test_the_fuzzer_sees_a_crash() -> None:
    def crashes(make: fuzz.Maker, folder: Path) -> None:
        raise KeyError(make.text())

    assert fuzz.attack("broken", crashes, 3, seed=0).crashed == 3


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(cells=st.lists(st.text(max_size=60), min_size=1, max_size=3))
def test_tables_and_terminals(cells: list[str]) -> None:
    for line in csv_text(["a"], [{"a": cell} for cell in cells]).splitlines():
        assert not line.strip('"').startswith(("=", "+", "-", "@"))
    assert visible("".join(cells)).isprintable() or any(ord(one) > 126 for one in "".join(cells))
