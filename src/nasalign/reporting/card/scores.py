"""What is said of an export that scores texts: what it computes, and how near it is to nasalign."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from nasalign.adapters.scaling import SAME
from nasalign.reporting.formats import rounded


@dataclass(frozen=True)
class ScoreFacts:
    """What an export that scores texts computes: ``sigmoid(slope * (yes - no) + offset)``.

    Attributes:
        columns: what the query and the document of a pair fill.
        words: the words of the two tokens.
        tokens: their ids.
        slope: of the calibration; 1 without one.
        offset: of the calibration, which a classifier cannot hold; 0 without one.
        calibrated: number of held-back examples that it was fitted on, or 0.
        difference: largest difference of the probability to that of nasalign, with all spellings
            of the words, over some pairs.
        pairs: number of these pairs.
    """

    columns: tuple[str, str]
    words: tuple[str, str]
    tokens: tuple[int, int]
    slope: float
    offset: float
    calibrated: int
    difference: float
    pairs: int

    @property
    def sentence(self) -> str:
        """Return how near its probabilities are to those of nasalign."""
        yes, no = self.words
        same = (
            "its probabilities are those of nasalign"
            if self.difference <= SAME
            else f"its probabilities differ by up to {self.difference:.4f} from those of nasalign, "
            "which adds up all spellings of a word"
        )
        how = (
            f"calibrated on {self.calibrated} held-back examples"
            if self.calibrated
            else "without a calibration"
        )
        return (
            f"It scores pairs of {self.columns[0]} and {self.columns[1]} by the two tokens of "
            f"{yes} and {no}, {how}; on {self.pairs} pairs {same}."
        )

    @property
    def pooler(self) -> str:
        """The option of vLLM that adds the offset of a classifier: it subtracts a mean."""
        return f"--pooler-config '{json.dumps({'logit_mean': -self.offset})}'"


def score_texts(facts: ScoreFacts, form: str) -> Iterator[str]:
    """Yield what an export computes, and for a classifier how its offset is added."""
    yield facts.sentence
    if form == "classifier" and facts.offset:
        yield (
            "The classes of transformers have no bias in their head, so add "
            f"{rounded(facts.offset)} to the logit (nasalign in config.json has it in full); vLLM "
            f"does with {facts.pooler}."
        )
