"""Figures and the notes of tables, of measurements that are made up."""

from typing import Any

import pytest

from fake_study import FIRST_ROW, SETS, TOKENS, FakeStudy, Says
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.reproduction.endpoint_model import endpoint_verdicts
from nasalign.reproduction.figures import figure_1, figure_6, figure_7
from nasalign.reproduction.result import Result
from nasalign.reproduction.statistics import table_2, table_9, table_16

PAPERS = [
    *("Llama-3-8B-Instruct (paper)", "Mistral-7B-Instruct-v0.3 (paper)"),
    *("Gemma-1.1-7b-it (paper)", "Qwen2-7B-Instruct (paper)"),
]


def studies(*given: FakeStudy) -> Any:
    """Fakes in place of studies."""
    return list(given)


def drawing(result: Result, name: str) -> dict[str, Any]:
    return result.charts[name].to_dict()


def test_figure_1_has_our_bars_beside_the_papers() -> None:
    result = figure_1(studies(FakeStudy("mine"), FakeStudy("other", shift=0.1)))
    drawn = drawing(result, "figure-1")
    bars, intervals = drawn["spec"]["layer"]
    assert bars["mark"]["type"] == "bar"
    assert bars["encoding"]["y"]["sort"] == ["mine", "other", *PAPERS]
    assert bars["encoding"]["yOffset"]["sort"] == ["precision", "recall"]
    assert intervals["mark"]["type"] == "rule"
    shown = drawn["data"]["values"]
    assert len(shown) == len(SETS) * 6 * 2
    of = {(one["data"], one["model"], one["metric"]): one for one in shown}
    musique = of["musique", "other", "precision"]
    found = [musique[key] for key in ("value", "low", "high")]
    assert found == pytest.approx([0.7, 0.62, 0.76])
    printed = of["strategyqa", "Llama-3-8B-Instruct (paper)", "recall"]
    assert (printed["value"], printed["low"], printed["source"]) == (0.795, None, "paper")


def test_a_model_behind_an_endpoint_is_the_fifth_of_figure_1() -> None:
    """Of four questions, Yes and No in turn: right, right, wrong, and no verdict."""
    chat = Says(["Yes.", "No", "**No**, it is not", "Perhaps"])
    settings = Settings(endpoint_model="openai:gpt-4", bootstrap_samples=50)
    result = figure_1(studies(FakeStudy("mine", settings=settings, chat=chat)))
    rows = [row for row in result.rows if row["model"] == "gpt-4"]
    assert [row["dataset"] for row in rows] == list(SETS)
    for row in rows:
        assert (row["precision"], row["recall"]) == (1.0, 0.5)
        assert (row["n"], row["invalid_rate"]) == (4, 0.25)
        assert row["recall_low"] <= 0.5 <= row["recall_high"]
        assert "nas" not in row
    assert any("5 of 20 answers have none" in note for note in result.notes)
    assert chat.asked[0].system == ""
    assert chat.asked[0].user == (
        "You are given a question and you MUST answer Yes or No. Question: strategyqa 0 Answer:"
    )


def test_an_endpoint_is_asked_prompt_1_and_what_it_refuses_is_invalid() -> None:
    example = BinaryExample("What is two?", False, "three", "Two is two.")
    chat = Says([None, "no"])
    found = endpoint_verdicts(chat, [example, example])
    assert found.scores.verdicts == ["invalid", "negative"]
    assert chat.asked[1].user == (
        "You are given a question and you MUST answer Yes or No. Context: Two is two. "
        "Question: What is two? Is the answer three? Answer:"
    )


def test_figures_6_and_7_show_kept_heads_in_the_same_colours() -> None:
    study = FakeStudy("mine", kept=[(4, 2), (1, 0)])
    study.attention_to_no = {"untouched": 0.75, "nasa": 0.25}
    scales = []
    for result, number, method, highest in (
        (figure_6(studies(study)), 6, "baseline", 0.75),
        (figure_7(studies(study)), 7, "NASA", 0.25),
    ):
        heads = list(dict.fromkeys(row["head"] for row in result.rows))
        assert heads == ["layer 4, head 2", "layer 1, head 0"]
        assert {row["method"] for row in result.rows} == {method}
        assert max(row["attention"] for row in result.rows) == highest
        drawn = drawing(result, f"figure-{number}-mine-gsm8k-rephrased")
        scales.append(drawn["spec"]["encoding"]["color"]["scale"]["domain"])
        assert len(drawn["data"]["values"]) == 2 * 2 * (len(TOKENS) - FIRST_ROW)
    assert scales == [[0, 0.75], [0, 0.75]]


def test_figures_6_and_7_say_that_no_head_was_kept() -> None:
    for make in (figure_6, figure_7):
        result = make(studies(FakeStudy("mine", kept=[]), FakeStudy("other")))
        assert [name.split("-")[2] for name in result.charts] == ["other"]
        assert "mine: no head was kept, so none is shown." in result.notes
        assert not make(studies(FakeStudy("mine", kept=[]))).charts


def test_table_9_says_what_the_papers_r_squared_cannot_be() -> None:
    rows = [
        {"nas": place**1.5, "p_no": (place * 7 % 5) / 9, "p_yes": (place * 3 % 4) / 9}
        for place in range(12)
    ]
    one = FakeStudy("mine", rows_by_set=dict.fromkeys(SETS, rows))
    other = FakeStudy("other", rows_by_set=dict.fromkeys(SETS, rows))
    alone, both = table_9(studies(one)).notes, table_9(studies(one, other)).notes
    assert "There is one model, so p is not corrected for multiple comparisons." in alone
    assert "p is corrected for 2 models by Bonferroni." in both
    # 0.5274^2, 0.3625^2 and 0.6322^2 of Table 1; Qwen's 0.265 is above 0.4806^2 = 0.231.
    below = "LLaMA (0.271 < 0.278), Mistral (0.060 < 0.131), Gemma (0.377 < 0.400), so"
    assert sum(below in note for note in both) == 1
    assert not any("Qwen" in note for note in both)


def test_table_2_says_of_how_many_samples_it_is() -> None:
    """Three domains of 3, 2 and 2 samples; the highest of four heads is the same in two."""
    one, other = [[[0.0, 5.0], [1.0, 2.0]], [[0.0, 1.0], [5.0, 2.0]]]
    rows = {"strategyqa": [one] * 3, "gsm8k-rephrased": [one] * 2, "ar-lsat": [other] * 2}
    study = FakeStudy("mine", settings=Settings(study_k=1, study_n=1))
    study.rows_by_set = {name: [{"heads": one} for one in part] for name, part in rows.items()}
    result = table_2(studies(study))
    assert (result.rows[0]["n"], result.rows[0]["overlap"]) == (7, 0.0)
    assert result.rows[0]["strategyqa, gsm8k-rephrased"] == 1.0
    said = "mine: samples: 3 of strategyqa, 2 of gsm8k-rephrased, 2 of ar-lsat; k = 1, N = 1;"
    assert any(note.startswith(said) for note in result.notes)


def test_table_16_names_one_kind_of_interval() -> None:
    row = {"verdict": "negative", "label": True, "knowledge": "Det-T", "confident": True}
    rows = {name: [row | {"question": "Is it?"}] for name in SETS}
    notes = " ".join(table_16(studies(FakeStudy("mine", rows_by_set=rows))).notes)
    assert "intervals are 95 %, by Wilson's score" in notes
    assert notes.count("95 %") == notes.count("Wilson") == 1
    assert "bootstrap" not in notes
