"""What a Python prompt and a notebook show of results: a line, a summary, a table, a chart."""

import json

import torch

from nasalign.adapters.adapter import Adapter
from nasalign.alignment import AlignResult
from nasalign.data.records import Question
from nasalign.inference.scoring import Scores
from nasalign.models.head_layouts import RowSlice
from nasalign.nas.heads import Head
from nasalign.nasa.decisions import HeadRecord
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.probing import ProbingSet


def result() -> AlignResult:
    """Five probed answers, three of them denied; of two heads the first is kept."""
    nas = torch.tensor([[2.0, -1.0], [0.5, 4.0]]).repeat(5, 1, 1)
    samples = [Parametric(Question(f"Is it {n}?", "it"), "it", True) for n in range(5)]
    said = ["positive", "positive", "negative", "negative", "negative"]
    probing = ProbingSet(samples, [], said, *torch.rand(2, 5), nas, ["TP"] * 2 + ["tuning"] * 3)
    heads = [Head(1, 1, 4.0), Head(0, 0, 2.0)]
    records = [
        HeadRecord(*head[:2], 1.0, 2.0, 0.5, 1.0, 0.4, 3, "all epochs", kept, "", "")
        for head, kept in zip(heads, (True, False), strict=True)
    ]
    where = RowSlice("layers.1.q_proj", 2, 4)
    adapter = Adapter({where: torch.zeros(2, 8)}, {where: torch.ones(2, 8)}, {}, "125b8165")
    return AlignResult(probing, heads, records, adapter)


def scores() -> Scores:
    return Scores(
        torch.tensor([0.25, 0.5, 0.125]),
        torch.tensor([0.5, 0.25, 0.125]),
        ["negative", "positive", "invalid"],
        torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1),
        ["No", "Yes", "<b>?"],
    )


def test_each_is_a_line() -> None:
    assert repr(result()) == (
        "AlignResult(1 of 2 selected heads kept, 16 changed weights, probing set of 5)"
    )
    assert repr(result().adapter) == (
        "Adapter(16 weights in 2 rows of 1 modules, for the model 125b8165)"
    )
    assert repr(scores()) == (
        "Scores(3 prompts: 1 invalid, 1 negative, 1 positive, mean model NAS 2.0)"
    )


def test_a_summary_says_what_was_found_and_kept() -> None:
    says = result().summary().splitlines()
    assert says[0].startswith("Of 5 answers that it was probed with, the untouched model wrongly")
    assert says[0].endswith("denies 3; it was tuned to say Yes.")
    assert says[1] == "2 heads were selected, and the changes of 1 kept: layer 1, head 1."
    page = result()._repr_html_()
    assert "<td>1</td><td>1</td><td>4.000</td><td>kept</td>" in page
    assert page.count("kept</td>") == 1


def test_scores_are_a_frame_of_a_row_a_prompt() -> None:
    frame = scores().to_frame()
    assert list(frame.columns) == ["p_yes", "p_no", "coverage", "verdict", "nas", "answer"]
    assert frame["coverage"].tolist() == [0.75, 0.75, 0.25]
    assert frame["nas"].tolist() == [1.0, 2.0, 3.0]
    assert frame["verdict"].tolist() == ["negative", "positive", "invalid"]
    page = scores()._repr_html_()
    assert "3 prompts" in page
    assert "&lt;b&gt;?" in page
    assert "<b>?" not in page


def test_heads_are_plotted_with_what_became_of_them() -> None:
    text = json.dumps(result().plot_heads().to_dict())
    cell = {"layer": 1, "head": 1, "NAS": 4.0, "fate": "kept"}
    assert json.dumps(cell) in text
    assert json.dumps({"layer": 0, "head": 0, "NAS": 2.0, "fate": "cancelled"}) in text
    assert text.count('"not selected"') >= 2
