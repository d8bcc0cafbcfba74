"""Few-shot examples of the evaluated task (Table 7)."""

import random

from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits, with_context
from nasalign.errors import DataError
from nasalign.evaluation.examples import write_examples
from nasalign.prompts.scenarios import in_scenario
from nasalign.session import Session


def few_shots(session: Session, splits: Splits) -> list[BinaryExample]:
    """Return few-shot examples of the evaluated task (Table 7), from the records held out for it.

    Half of the answers are Yes, in an order that the seed decides. Each example has the context
    that the evaluated ones have; of a long one the supporting part.

    Raises:
        DataError: too few of the records give an example.
    """
    settings = session.settings
    rng = random.Random(f"{settings.seed}/labels")
    labels = [True, False] * (settings.shots // 2) + [rng.random() < 0.5] * (settings.shots % 2)
    rng.shuffle(labels)
    gives = settings.scenario == "context" and settings.context == "none"
    left, _ = with_context(splits.shown, "supporting" if gives else settings.context)
    found: list[BinaryExample] = []
    for label in labels:
        for record in left:
            sides = write_examples(session, "shots", [record], splits.pool, "both").examples
            fitting = [one for one in sides if one.label is label]
            if fitting:
                left.remove(record)
                found += fitting
                break
        else:
            raise DataError(
                f"{splits.name} gives {len(found)} of {settings.shots} examples to show; set shots "
                "lower, or give more rows."
            )
    return in_scenario(found, "negated") if settings.scenario == "negated" else found
