"""The verdict and the figures that a written task computes, without nasalign."""

import ast
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from nasalign.evaluation.metrics import from_sums, sample_sums
from nasalign.harness import answers

DOC = {"words": [0, 0, 1, 1, 2], "label": True}


def said(*probabilities: float) -> list[tuple[float, bool]]:
    return [(math.log(p) if p else -math.inf, False) for p in probabilities]


@pytest.mark.parametrize(
    ("probabilities", "verdict"),
    [
        ((0.2, 0.2, 0.3, 0.0, 0.0), "positive"),  # the sum counts, not the likeliest form
        ((0.2, 0.1, 0.4, 0.0, 0.3), "negative"),
        ((0.2, 0.1, 0.2, 0.1, 0.35), "unsure"),
        ((0.25, 0.0, 0.0, 0.25, 0.125), "invalid"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), "invalid"),
    ],
)
def test_a_word_is_as_likely_as_its_forms_together(
    probabilities: tuple[float, ...], verdict: str
) -> None:
    results = said(*probabilities)
    assert answers.verdict(DOC, results) == verdict
    found = answers.process_results(DOC, results)
    assert found["acc"] == (verdict == "positive")
    assert found["yes_rate"] == (verdict == "positive")
    assert found["f1"] == (True, verdict)
    sums = [sum(probabilities[:2]), sum(probabilities[2:4]), probabilities[4]]
    assert [math.exp(log) for log in answers.log_probabilities(DOC, results)] == pytest.approx(sums)


def test_f1_is_that_of_the_metrics() -> None:
    every = list(product((True, False), ("positive", "negative", "unsure", "invalid")))
    for items in ([*every, (True, "positive")], every[1:], every[-3:], []):
        labels, verdicts = [item[0] for item in items], [item[1] for item in items]
        n = len(items)
        sums = sample_sums(verdicts, labels, [(0.5, 0.5)] * n, *np.zeros((2, n))).sum(axis=0)
        assert answers.f1(items) == pytest.approx(float(from_sums(sums)["f1"]))


def test_it_stands_alone() -> None:
    tree = ast.parse(Path(answers.__file__).read_text())
    named = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
    }
    assert named == {"json", "math", "collections", "pathlib", "typing", "datasets"}
