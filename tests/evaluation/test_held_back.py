"""Held-back questions are neither tuned on, evaluated nor shown; both labels are as frequent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nasalign.config import Settings
from nasalign.data.binary import Binary
from nasalign.data.records import BinaryExample, Question, split_of
from nasalign.data.sources import Loaded
from nasalign.data.splits import Splits
from nasalign.evaluation import held_back
from nasalign.evaluation.held_back import (
    fit_calibration,
    held_back_examples,
    held_back_odds,
    held_back_pairs,
)
from nasalign.inference.scoring import Scores
from nasalign.io.files import read_jsonl
from nasalign.run import Run
from nasalign.session import Session


def session(folder: Path | None = None, **settings: Any) -> Session:
    none: Any = None
    return Session(none, none, Settings(decoder="generate").replace(settings), Run(folder))


def splits() -> Splits:
    questions = [Question(f"Who is {n}?", "she", subject=f"subject {n}") for n in range(80)]
    data = Loaded("people", list(questions), origin="people.jsonl")
    return Splits.of(data, data)


def both_sides(records: Sequence[Question], unpaired: int = 0) -> list[BinaryExample]:
    """A right answer to each question, and a wrong one to all but the first few."""
    right = [BinaryExample(one.question, True, "she", subject=one.subject) for one in records]
    wrong = [BinaryExample(one.question, False, "he", subject=one.subject) for one in records]
    return [*right, *wrong[unpaired:]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """The records of which examples were made; of two questions there is no wrong answer."""
    records: list[Question] = []

    def make(session: Session, name: str, rest: Any, pool: Any, shots: Any) -> Any:
        assert session.settings.generator == "rules"
        assert session.settings.sides == "both"
        records.extend(rest)
        examples = both_sides(rest, unpaired=2)
        return list(rest), Binary(examples, list(range(len(examples))))

    monkeypatch.setattr(held_back, "make_examples", make)
    return records


def test_they_are_of_the_development_split_with_both_labels(asked: list[Question]) -> None:
    found = held_back_examples(session(), splits(), {}, ())
    assert {split_of(one.subject or "") for one in found} == {"development"}
    labels = [one.label for one in found]
    assert labels.count(True) == labels.count(False) == len(asked) - 2


def test_what_is_evaluated_or_shown_is_not_among_them(asked: list[Question]) -> None:
    development = splits().of_development
    evaluated, shown = (BinaryExample(one.question, True, "she") for one in development[:2])
    found = held_back_examples(session(), splits(), {"people": [evaluated]}, [shown])
    questions = {one.question for one in found}
    assert questions
    assert not questions & {evaluated.question, shown.question}
    assert {one.question for one in asked} == {one.question for one in development[2:]}


def test_where_all_is_evaluated_nothing_is_held_back(asked: list[Question]) -> None:
    every = [BinaryExample(one.question, True, "she") for one in splits().of_development]
    assert held_back_examples(session(), splits(), {"people": every}, ()) == []
    assert asked == []


@pytest.mark.parametrize(("questions", "pairs"), [(1000, 100), (80, 20), (5, 10)])
def test_fewer_are_asked_where_less_is_evaluated(questions: int, pairs: int) -> None:
    assert held_back_pairs(Settings(evaluation_questions=questions)) == pairs


def test_log_odds_are_written_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = both_sides(splits().of_development)
    n, calls = len(examples), []

    def score(model: Any, tokenizer: Any, examples: Any, settings: Settings, *_: Any, **__: Any):
        assert settings.decoder == "logits"
        calls.append(n)
        return Scores(
            torch.full((n,), 0.2), torch.full((n,), 0.4), ["negative"] * n, torch.empty(0)
        )

    monkeypatch.setattr(held_back, "score_as", score)
    first = held_back_odds(session(tmp_path), examples, (), "after")
    assert first.tolist() == pytest.approx([-0.6931472] * n)
    rows = read_jsonl(tmp_path / "held_back.after.jsonl")
    assert [row["label"] for row in rows] == [one.label for one in examples]
    again = session(tmp_path)
    again.run.resuming = True
    assert torch.equal(held_back_odds(again, examples, (), "after"), first)
    assert len(calls) == 1


def test_slope_and_offset_are_those_of_each_model() -> None:
    examples = [BinaryExample(f"Is it {n}?", n % 2 == 0) for n in range(400)]
    noise = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    right = torch.tensor([1.0 if one.label else -1.0 for one in examples], dtype=torch.float64)
    odds = 2 * right + 2 * noise  # by Bayes the log odds of the label are the odds themselves
    found = fit_calibration(session(), examples, (odds - 6) / 2, odds, "people")
    assert found
    assert found.before
    assert found.after
    assert (found.n, found.data) == (400, "people")
    assert found.after.slope == pytest.approx(1, abs=0.25)
    assert found.after.offset == pytest.approx(0, abs=0.3)
    assert found.before.slope == pytest.approx(2 * found.after.slope, rel=1e-3)
    assert found.before.offset == pytest.approx(
        found.after.offset + 6 * found.after.slope, abs=0.01
    )
    assert found.fits(Settings())
    assert not found.fits(Settings(vocabulary="true/false"))
    assert not found.fits(Settings(), shots=2)


class Heard(Run):
    """A run that keeps what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_slope_that_would_turn_verdicts_round_is_none() -> None:
    examples = [BinaryExample(f"Is it {n}?", n >= 20) for n in range(40)]
    odds, heard = torch.arange(40, dtype=torch.float64), Heard()
    found = fit_calibration(session().with_run(heard), examples, -odds, odds, "people")
    assert found
    assert found.before is None
    assert found.after
    assert [text for text in heard.said if "no calibration of the untouched model" in text]


def test_too_few_examples_give_none_and_it_is_said() -> None:
    heard = Heard()
    examples = [BinaryExample(f"Is it {n}?", n >= 9) for n in range(18)]
    odds = torch.arange(18, dtype=torch.float64)
    assert fit_calibration(session().with_run(heard), examples, odds, odds, "people") is None
    assert heard.said == [
        "people holds back 18 questions and answers; a calibration takes at least 20, so there is "
        "none."
    ]
