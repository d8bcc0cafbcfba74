"""A verdict tells its price: wrong answers accepted, the break-even, a threshold, and NAS."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nasalign.io.files import read_json, read_jsonl, write_json, write_jsonl, write_tensors
from nasalign.reporting.report import report_html
from nasalign.reporting.report.data_sets import data_sets
from nasalign.reporting.report.not_selected import high_but_not_selected, why_not
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.story import Verdict, run_verdict, verdict_of
from run_folder import HEADS, LAYERS, make_run, metrics, text_of

RIGHT, WRONG = 120, 80


def answers(right: int, wrong: int, nas: float = 50.0) -> list[dict[str, Any]]:
    """Answers to 120 right and 80 wrong answers, of which so many are affirmed.

    The odds of Yes fall from the first of a label to its last, and are higher for right answers.
    """
    rows = []
    for label, count, yes in ((True, RIGHT, right), (False, WRONG, wrong)):
        for number in range(count):
            p_yes = 0.3 * (1 - number / count) * (1.0 if label else 0.5)
            rows.append(
                {
                    "question": f"What is {number} of {label}?",
                    "answer": "this",
                    "label": label,
                    "verdict": "positive" if number < yes else "negative",
                    "p_yes": p_yes,
                    "p_no": 0.5,
                    "nas": nas + number / 100,
                }
            )
    return rows


def told(folder: Path, before: tuple, after: tuple, nas: float = 50.0, **facts: Any) -> Verdict:
    """The verdict of a run with these answers."""
    make_run(folder)
    write_json(folder / "run.json", read_json(folder / "run.json") | facts)
    sides = {"before": answers(*before, nas=nas), "after": answers(*after, nas=nas)}
    for side, rows in sides.items():
        write_jsonl(folder / "eval" / f"facts.{side}.jsonl", rows)
    table = {side: metrics(rows) for side, rows in sides.items()}
    write_json(folder / "metrics.json", {"datasets": {"facts": table}})
    return verdict_of(folder)


def note(found: Verdict, words: str) -> str:
    (one,) = (one for one in found.notes if words in one)
    return one.replace("\N{NO-BREAK SPACE}", " ")


def test_a_gain_that_is_paid_for_is_not_good(tmp_path: Path) -> None:
    found = told(tmp_path / "run", (0, 0), (90, 50))
    assert (found.label, found.tone) == ("More accurate, more wrong Yes", "mixed")
    assert "recall rose from 0.000 to 0.750" in found.sentence
    assert found.sentence.endswith(", but it accepts 50 of 80 wrong answers (0 before).")
    # By hand: 0.75 gained, 0.625 lost; even at 0.625 / 1.375 = 0.4545.
    even = note(found, "Break-even")
    assert "Yes is right for more than 45 % of the questions (here it is for 60 %)" in even
    assert found.notes.index(note_of(found, "Break-even")) == 0
    page = text_of(report_html(tmp_path / "run"))
    assert "- (never said Yes)" in page
    assert "+0." not in page[page.index("precision - (never") :].split("recall")[0]


def note_of(found: Verdict, words: str) -> str:
    return next(one for one in found.notes if words in one)


def test_a_gain_without_a_price_is_good(tmp_path: Path) -> None:
    found = told(tmp_path / "run", (0, 0), (90, 1))
    assert (found.label, found.tone) == ("Better", "good")
    assert found.sentence.endswith(", and it accepts 1 of 80 wrong answers (0 before).")


def test_a_lean_that_turned_is_not_good(tmp_path: Path) -> None:
    found = told(tmp_path / "run", (20, 78), (118, 78))
    assert (found.label, found.tone) == ("More accurate, leans the other way", "mixed")
    assert "at every share of Yes" in note(found, "Break-even: none")


def test_a_lean_to_yes_pays_with_right_answers(tmp_path: Path) -> None:
    mirrored = {"direction": {"chosen": "positive"}}
    found = told(tmp_path / "run", (120, 80), (80, 10), **mirrored)
    assert "specificity rose from 0.000 to 0.875" in found.sentence
    assert found.sentence.endswith(", but it denies 40 of 120 right answers (0 before).")
    # By hand: 1/3 lost on right answers, 0.875 gained on wrong ones: 0.875 / 1.2083.
    assert "right for less than 72 % of the questions" in note(found, "Break-even")


def test_a_threshold_stands_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not any("threshold" in one for one in told(folder, (0, 0), (90, 50)).notes)
    # P(Yes) above 0.15: half of the right answers, the first of which has 0.3, and no wrong one.
    write_json(
        folder / "threshold.json",
        {"kind": "log odds", "value": math.log(0.15 / 0.5) + 1e-6, "n": 200},
    )
    says = note(verdict_of(folder), "A plain threshold")
    assert "fitted on 200 held-back examples, gives on the same questions accuracy 0.700 " in says
    assert "(the corrected model 0.600) and recall 0.500" in says
    assert "accepts 0 of 80 wrong answers" in says


def test_nas_that_contradicts_the_lean_is_explained(tmp_path: Path) -> None:
    found = told(tmp_path / "run", (0, 0), (90, 50), nas=-37.6)
    assert "below 0 already: its heads attend to Yes more than to No" in note(
        found, "model NAS was"
    )
    usual = told(tmp_path / "usual", (0, 0), (90, 50), nas=37.6)
    assert not any("does not explain" in one for one in usual.notes)


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (4.0, -32.9, "went from 4.000 past 0 to -32.9"),
        (-3.0, -32.9, "was -3.000, below 0 already, and ends at -32.9"),
        (4.0, -3.0, ""),
        (4.0, 0.4, ""),
    ],
)
def test_an_overshoot_is_named(start: float, end: float, says: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = read_jsonl(folder / "tuning.jsonl")
    for row in rows:
        if row["record"] == "head" and row["kept"]:
            row |= {"alpha_before": start, "alpha": end}
    write_jsonl(folder / "tuning.jsonl", rows)
    notes = " ".join(verdict_of(folder).notes)
    assert says in notes
    assert ("The NAS of layer" in notes or "Tuning overshot" in notes) == bool(says)


def test_a_share_far_past_the_halting_share_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = read_jsonl(folder / "tuning.jsonl")
    for share, said in ((0.55, False), (0.78, True)):
        rows[-1]["yes_share"] = share
        write_jsonl(folder / "tuning.jsonl", rows)
        notes = " ".join(verdict_of(folder).notes).replace("\N{NO-BREAK SPACE}", " ")
        assert (
            "halts at 50 % Yes on held-back questions, and its last step went to 78 %" in notes
        ) == said


def test_a_head_of_high_nas_that_was_not_selected_says_why(tmp_path: Path) -> None:
    """Layer 0, head 0 has the highest mean by one sample alone; layer 3, head 2 is fifth."""
    folder = make_run(tmp_path / "run")
    settings = read_json(folder / "run.json")["settings"] | {"k": 4, "n": 3}
    write_json(folder / "run.json", read_json(folder / "run.json") | {"settings": settings})
    nas = torch.zeros(10, LAYERS, HEADS)
    nas[:, 2, 1], nas[:, 1, 2], nas[:, 3, 0], nas[:, 3, 2] = 5.0, 4.0, 1.0, 0.5
    nas[0, 0, 0] = 70.0
    write_tensors(folder / "nas.safetensors", {"nas": nas})
    files = RunFiles.read(folder)
    reasons = {head: why.replace("\N{NO-BREAK SPACE}", " ") for head, why in why_not(files).items()}
    assert reasons[0, 0] == (
        "it is among the 4 of highest NAS on 10 % of the questions, where 90 % are needed"
    )
    assert reasons[3, 2] == "3 heads of higher NAS were taken"
    assert len(reasons) == LAYERS * HEADS - 3
    (said,) = high_but_not_selected(files)
    assert said.startswith("Layer 0, head 0 (NAS 7.000) was not selected: it is among the 4")
    assert said in report_html(folder)


def test_the_report_begins_with_the_verdict_and_its_price(tmp_path: Path) -> None:
    found = told(tmp_path / "run", (0, 0), (90, 50))
    files = RunFiles.read(tmp_path / "run")
    assert run_verdict(files, data_sets(files)) == found
    page = text_of(report_html(tmp_path / "run"))
    sentence = " ".join(found.sentence.split())
    assert page.index(sentence) < page.index("Break-even") < page.index("Before and after")
