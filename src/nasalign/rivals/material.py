"""What every row of a comparison may be fitted on."""

from collections.abc import Sequence
from dataclasses import replace

from nasalign.data.binary import positive_example, sample
from nasalign.data.records import BinaryExample, Question, split_of
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.examples import without_evidence, write_examples
from nasalign.evaluation.prompt_fit import fitting
from nasalign.evaluation.shots import few_shots
from nasalign.nasa.probing import ProbingSet
from nasalign.rivals.rival import Material
from nasalign.session import Session

SHOTS = 4
"""Examples that a row may show before each question."""


def material_of(
    session: Session, splits: Splits, probing: ProbingSet, asked: Sequence[Question]
) -> Material:
    """Return what rows are fitted on: the probing and the development split, never the test.

    Args:
        session: with the untouched model.
        splits: the data of the run.
        probing: the probing set.
        asked: the questions that were probed.

    Raises:
        DataError: nothing is left to choose settings on.
    """
    places = [place for place, part in enumerate(probing.parts) if part == "tuning"]
    mistaken = [probing.samples[place].question for place in places]
    same = [positive_example(question) for question in mistaken]
    if probing.wrong is not None:  # a lean to Yes: D are wrong answers that it affirms
        same = [
            replace(one, answer=probing.wrong[place], label=False)
            for one, place in zip(same, places, strict=True)
        ]
    rest = [one for one in splits.probing_pool if split_of(one.subject) == "development"]
    settings = session.settings
    watched = without_evidence(sample(rest, settings.evaluation_questions, settings.seed))
    development = _both_sides(session, splits, "development", watched)
    if not development:
        raise DataError(
            f"{splits.probing_name} has no question in its development split, on which settings "
            "are chosen; give more rows."
        )
    return Material(
        session=session,
        asked=list(asked),
        probing=probing,
        same=same,
        pairs=_both_sides(session, splits, "pairs", mistaken),
        development=development,
        shots=few_shots(session.with_settings(shots=SHOTS), splits),
    )


def _both_sides(
    session: Session, splits: Splits, part: str, questions: Sequence[Question]
) -> list[BinaryExample]:
    """Each question with its right and a wrong answer."""
    stage, pool = f"material/{part}", splits.probing_pool
    binary = write_examples(session, stage, questions, pool, "both")
    name = f"{splits.probing_name} ({part})"
    session.run.drop(binary.dropped, name)
    return fitting(session, name, questions, binary).examples
