"""One way to round and to name figures."""

import math

import pytest

from nasalign.evaluation.metrics import LEAN, METRICS
from nasalign.reporting.formats import (
    METRIC_NAMES,
    between,
    metric_name,
    number,
    percent,
    rounded,
    signed,
    value_or_why,
)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.0075, "0.008"),  # 3 of 400; as binary numbers both lie below the half
        (0.6275, "0.628"),
        (0.8325 - 0.205, "0.628"),
        (-0.0075, "-0.008"),
        (-0.0001, "0.000"),
        (37.65, "37.7"),
        (12345, "12,345"),
        (math.nan, "n/a"),
        (None, "n/a"),
        (math.inf, "inf"),
        ("-inf", "-inf"),
    ],
)
def test_halves_are_rounded_away_from_zero(value: float | str | None, says: str) -> None:
    assert number(value) == says


def test_changes_have_a_sign() -> None:
    assert [signed(value) for value in (0.0075, -0.6275, 0.0)] == ["+0.008", "-0.628", "+0.000"]
    assert between((-0.0125, 0.25), sign=True) == "-0.013 to +0.250"
    assert between((None, None)) == between((math.nan, math.nan)) == ""


def test_shares_in_percent_are_rounded_alike() -> None:
    assert [percent(share)[:-2] for share in (0.625, 0.005, 0.375, 0.995)] == [
        *("63", "1", "38", "over 99")
    ]
    assert rounded(2.5, 0) == "3"


def test_every_metric_has_one_name() -> None:
    assert {*METRICS, *LEAN, "gap", "auc"} == set(METRIC_NAMES)
    assert len(set(METRIC_NAMES.values())) == len(METRIC_NAMES)
    assert metric_name("yes_rate", ("Ja", "Nein")) == "share of Ja"
    assert metric_name("no_rate", ("Ja", "Nein")) == "share of Nein"


def test_what_is_undefined_says_why() -> None:
    assert value_or_why("precision", None) == "- (never said Yes)"
    assert value_or_why("gap", math.nan, ("Ja", "Nein")) == "- (never said Ja)"
    assert value_or_why("specificity", None) == "- (no wrong answers)"
    assert value_or_why("precision", 0.0) == "0.000"
