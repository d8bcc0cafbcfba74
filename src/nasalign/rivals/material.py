"""What every row of a comparison may be fitted on."""

from collections.abc import Sequence
from itertools import zip_longest

from nasalign.config import Settings
from nasalign.data.binary import Binary, sample
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.examples import without_evidence, write_examples
from nasalign.evaluation.prompt_fit import fitting
from nasalign.evaluation.shots import few_shots
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.probing import ProbingSet
from nasalign.rivals.rival import Material
from nasalign.session import Session

SHOTS = 4
"""Examples that a row may show before each question."""


def material_of(
    session: Session, splits: Splits, probing: ProbingSet, asked: Sequence[Parametric]
) -> Material:
    """Return what rows are fitted on: the probing and the development split, never the test.

    Args:
        session: with the untouched model.
        splits: the data of the run.
        probing: the probing set.
        asked: what was probed.

    Raises:
        DataError: nothing is left to choose settings on.
    """
    settings = session.settings
    rest = sample(splits.of_development, settings.evaluation_questions, settings.seed)
    if splits.labelled:
        pairs = _labelled(splits, probing, settings)
        development = _fitting_rows(session, splits, rest)
    else:
        pairs = _both_sides(session, splits, "pairs", _mistaken(probing))
        development = _both_sides(session, splits, "development", without_evidence(rest))
    if not development:
        raise DataError(
            f"{splits.probing_name} has no question in its development split, on which settings "
            "are chosen; give more rows."
        )
    return Material(
        session=session,
        asked=list(asked),
        probing=probing,
        pairs=pairs,
        development=development,
        shots=few_shots(session.with_settings(shots=SHOTS), splits),
    )


def _mistaken(probing: ProbingSet) -> list[Question]:
    """The questions of D."""
    parts = zip(probing.samples, probing.parts, strict=True)
    return [sample.question for sample, part in parts if part == "tuning"]


def _labelled(splits: Splits, probing: ProbingSet, settings: Settings) -> list[BinaryExample]:
    """D of labelled rows, with as many rows of the other label."""
    parts = zip(probing.samples, probing.parts, strict=True)
    same = [one.example for one, part in parts if part == "tuning" and one.example]
    others = [one for one in splits.labelled if same and one.label is not same[0].label]
    drawn = sample(others, len(same), settings.seed)
    return [row for pair in zip_longest(same, drawn) for row in pair if row]


def _fitting_rows(
    session: Session, splits: Splits, records: Sequence[Record]
) -> list[BinaryExample]:
    """Labelled rows whose prompts fit the model."""
    rows = [one for one in records if isinstance(one, BinaryExample)]
    name = f"{splits.probing_name} (development)"
    return fitting(session, name, rows, Binary(rows, list(range(len(rows))))).examples


def _both_sides(
    session: Session, splits: Splits, part: str, questions: Sequence[Record]
) -> list[BinaryExample]:
    """Each question with its right and a wrong answer."""
    stage, pool = f"material/{part}", splits.probing_pool
    binary = write_examples(session, stage, questions, pool, "both")
    name = f"{splits.probing_name} ({part})"
    session.run.drop(binary.dropped, name)
    return fitting(session, name, questions, binary).examples
