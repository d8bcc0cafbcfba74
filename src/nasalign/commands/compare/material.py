"""What every row of a comparison may be fitted on."""

from collections.abc import Sequence
from dataclasses import replace

from nasalign.data.binary import positive_example, sample, to_binary
from nasalign.data.records import BinaryExample, Question, split_of
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.examples import Bench, without_evidence
from nasalign.nasa.probing import ProbingSet
from nasalign.rivals.rival import Material

SHOTS = 4
"""Examples that a row may show before each question."""


def material_of(bench: Bench, splits: Splits, probing: ProbingSet) -> Material:
    """Returns what rows are fitted on: of the probing and the development split, never the test.

    Args:
        bench: with the untouched model.
        splits: the data of the run.
        probing: the probing set.

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
    settings = bench.settings
    watched = without_evidence(sample(rest, settings.evaluation_questions, settings.seed))
    development = _both_sides(bench, splits, "development", watched)
    if not development:
        raise DataError(
            f"{splits.probing_name} has no question in its development split, on which settings "
            "are chosen; give more rows."
        )
    showing = Bench(bench.model, bench.tokenizer, settings.replace({"shots": SHOTS}), bench.run)
    return Material(
        model=bench.model,
        tokenizer=bench.tokenizer,
        settings=settings,
        run=bench.run,
        asked=sample(without_evidence(splits.probing), settings.probing_questions, settings.seed),
        probing=probing,
        same=same,
        pairs=_both_sides(bench, splits, "pairs", mistaken),
        development=development,
        shots=showing.shots(splits),
    )


def _both_sides(
    bench: Bench, splits: Splits, part: str, questions: Sequence[Question]
) -> list[BinaryExample]:
    """Each question with its right and a wrong answer."""
    run, settings = bench.run, bench.settings
    generator = run.chat(settings.generator, settings, bench.model, bench.tokenizer)
    with run.asking(f"material/{part}", "Writing questions", len(questions), generator) as done:
        binary = to_binary(
            questions,
            settings.seed,
            splits.probing_pool,
            sides="both",
            generator=generator,
            progress=done,
        )
    run.drop(binary.dropped, f"{splits.probing_name} ({part})")
    return binary.examples
