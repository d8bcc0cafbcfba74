"""The plain threshold that a correction is set beside: on the untouched model's log odds."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nasalign.data.records import BinaryExample
from nasalign.io.files import read_json, write_json
from nasalign.rivals.calibration import best_threshold
from nasalign.run import Run

FILE = "threshold.json"


def fit_threshold(run: Run, odds: Tensor, examples: Sequence[BinaryExample]) -> None:
    """Fit the threshold of best balanced accuracy; write ``threshold.json``.

    Args:
        run: where it is written.
        odds: log odds of the untouched model on N held-back examples, [N]
            (``evaluation.held_back``).
        examples: N of them; none gives a file without a threshold.
    """

    def make() -> dict[str, Any]:
        if not examples:
            return {}
        value = best_threshold(odds, examples)
        return {"kind": "log odds", "value": value, "n": len(examples)}

    run.cached(FILE, make, write_json, read_json)
