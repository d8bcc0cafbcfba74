"""What Figures 3, 6 and 7 need of a data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from nasalign.data.records import BinaryExample
from nasalign.errors import DataError
from nasalign.reproduction.study import Study


def test_a_sample_without_a_yes_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def tuned(form: str) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(builder=lambda: None)

    study = Study("model", None, None, {}, tmp_path, {}, {})
    asked = SimpleNamespace(examples=[BinaryExample("Is it?", False)])
    monkeypatch.setattr(study, "asked_of", lambda name: asked)
    monkeypatch.setattr(study, "tuned", tuned)
    with pytest.raises(DataError, match="strategyqa has no question whose right answer is Yes"):
        study._attention("strategyqa", "untouched", [(0, 0)])
