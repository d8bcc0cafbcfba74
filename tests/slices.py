"""Slices of the real data sets in their upstream layouts, which are not part of the project.

They are looked for in ``NASALIGN_SLICES``, or else in ``shared/data`` beside the checkout.
"""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("NASALIGN_SLICES", Path(__file__).parents[2] / "shared" / "data"))
FILES = {
    "hotpotqa": ["hotpotqa_dev_simplified.json"],
    "strategyqa": ["strategyqa_train.json"],
    "musique": ["musique_ans_dev.jsonl"],
    "gsm8k": ["gsm8k_test.jsonl"],
    "math": ["math_test.jsonl"],
    "ar-lsat": ["ar_lsat_TrainingData.json", "ar_lsat_DevelopmentData.json"],
}
needed = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"needs the slices of the real data sets in {FOLDER}"
)


def files(name: str) -> list[Path]:
    """The slice of a named data set."""
    return [FOLDER / file for file in FILES[name]]
