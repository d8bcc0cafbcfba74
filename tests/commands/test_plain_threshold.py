"""The plain threshold is fitted on held-back examples of both labels, and never on the test."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nasalign.commands import plain_threshold
from nasalign.commands.plain_threshold import fit_threshold, threshold_pairs
from nasalign.config import Settings
from nasalign.data.binary import Binary
from nasalign.data.records import BinaryExample, Question, split_of
from nasalign.data.sources import Loaded
from nasalign.data.splits import Splits
from nasalign.inference.scoring import Scores
from nasalign.io.files import read_json
from nasalign.run import Run
from nasalign.session import Session

EXAMPLES = [BinaryExample(f"Is it {n}?", n >= 6) for n in range(10)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What examples were made of; the odds of Yes rise with the number of an example."""
    records: list[Any] = []

    def make(session: Session, name: str, rest: Any, pool: Any, shots: Any) -> Any:
        assert session.settings.generator == "rules"
        assert session.settings.sides == "both"
        records.extend(rest)
        return list(rest), Binary(EXAMPLES, list(range(10)))

    def score(model: Any, tokenizer: Any, examples: Any, settings: Settings, *_: Any, **__: Any):
        assert settings.decoder == "logits"
        p_yes = torch.tensor([0.01 * 1.5**n for n in range(10)])
        return Scores(p_yes, torch.full((10,), 0.5), ["negative"] * 10, torch.empty(10, 0, 0))

    monkeypatch.setattr(plain_threshold, "make_examples", make)
    monkeypatch.setattr(plain_threshold, "score_as", score)
    return records


def session(folder: Path | None, **settings: Any) -> Session:
    none: Any = None
    return Session(none, none, Settings(decoder="generate").replace(settings), Run(folder))


def splits() -> Splits:
    questions = [Question(f"Who is {n}?", "she", subject=f"subject {n}") for n in range(80)]
    data = Loaded("people", list(questions), origin="people.jsonl")
    return Splits.of(data, data)


def test_it_parts_the_labels_of_the_development_split(tmp_path: Path, asked: list[Any]) -> None:
    fit_threshold(session(tmp_path), splits(), ())
    found = read_json(tmp_path / "threshold.json")
    assert found["n"] == 10
    # Between the examples 5 and 6, of P(Yes) 0.076 and 0.114 beside 0.5.
    assert found["value"] == pytest.approx(torch.tensor(0.01 * 1.5**5.5 / 0.5).log().item())
    assert asked
    assert {split_of(one.subject) for one in asked} == {"development"}


def test_one_label_alone_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Binary(EXAMPLES[6:], list(range(4)))
    monkeypatch.setattr(plain_threshold, "make_examples", lambda *_: ([], alone))
    fit_threshold(session(tmp_path), splits(), ())
    assert read_json(tmp_path / "threshold.json") == {}


def test_without_a_run_directory_nothing_is_asked(asked: list[Any]) -> None:
    fit_threshold(session(None), splits(), ())
    assert asked == []


@pytest.mark.parametrize(("questions", "pairs"), [(1000, 100), (60, 20), (5, 10)])
def test_fewer_are_asked_where_less_is_evaluated(questions: int, pairs: int) -> None:
    assert threshold_pairs(Settings(evaluation_questions=questions)) == pairs
