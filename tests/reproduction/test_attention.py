"""What Figures 3, 6 and 7 need of a data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from nasalign.data.records import BinaryExample
from nasalign.errors import DataError
from nasalign.reproduction.study import Study


def test_a_sample_without_a_yes_is_refused_in_a_sentence() -> None:
    @contextmanager
    def tuned(form: str) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(builder=lambda: None)

    asked = SimpleNamespace(examples=[BinaryExample("Is it?", False)])
    data: Any = SimpleNamespace(of=lambda name: asked)
    forms: Any = SimpleNamespace(tuned=tuned)
    study = Study(SimpleNamespace(), data, forms)
    with pytest.raises(DataError, match="strategyqa has no question whose right answer is Yes"):
        study._attention("strategyqa", "untouched", [(0, 0)])
