"""The parts of a probing set: D, V, and the answers by which tuning halts in place of tau."""

import random
from collections.abc import Collection, Sequence
from typing import Literal

from nasalign.config import Settings
from nasalign.inference.verdicts import Verdict
from nasalign.nasa.direction import Lean, right_and_wrong
from nasalign.nasa.knowledge import Parametric
from nasalign.prompts.builder import BinaryPrompt
from nasalign.session import Session

VALIDATION_ONE_OF = 3
"""V is at most one of so many mistakes: of few, a smaller V could not tell where balance is."""
Part = Literal["TP", "tuning", "validation", "unused", "invalid"]


def split(
    asked: Sequence[Parametric],
    known: Sequence[Parametric],
    verdicts: Sequence[Verdict],
    settings: Settings,
    mistake: Lean,
) -> tuple[list[Part], set[str]]:
    """Split the false verdicts into D and V, whole subjects at a time.

    Subjects are held back until V is complete, those of all questions: as many of what the model
    does not know as of what it knows.

    Returns:
        The part of each known sample, and the subjects that are held back.
    """
    right = "positive" if mistake == "negative" else "negative"
    parts: list[Part] = ["TP" if verdict == right else "invalid" for verdict in verdicts]
    by_subject: dict[str, list[int]] = {one.question.about: [] for one in asked}
    for index, verdict in enumerate(verdicts):
        if verdict == mistake:
            by_subject[known[index].question.about].append(index)
    subjects = sorted(by_subject)  # the shuffle must not depend on the order of the data
    random.Random(settings.seed).shuffle(subjects)
    denied = sum(len(indices) for indices in by_subject.values())
    wanted = min(settings.validation_samples, max(1, denied // VALIDATION_ONE_OF))
    room: dict[Part, int] = {"validation": wanted, "tuning": settings.tuning_samples}
    held: set[str] = set()
    for subject in subjects:
        part: Part = "validation" if room["validation"] > 0 else "tuning"
        if part == "validation":
            held.add(subject)
        for index in by_subject[subject]:
            parts[index] = part if room[part] > 0 else "unused"
            room[part] -= 1
    return parts, held


def balance_prompts(
    session: Session,
    asked: Sequence[Parametric],
    held: Collection[str],
    direction: Lean,
) -> list[BinaryPrompt]:
    """Return Prompt I with right and wrong answers in turn, to questions of held-back subjects.

    They are ``balance_pairs`` at most, and none unless tuning halts by them.

    Args:
        session: the settings and the prompts' builder.
        asked: all questions.
        held: the subjects that ``split`` holds back.
        direction: the lean that is corrected; of one to Yes, the prompts are mirrored.
    """
    settings = session.settings
    if settings.halting != "balance":
        return []
    chosen = [one for one in asked if one.question.about in held]
    sides = right_and_wrong(chosen, asked, settings.balance_pairs, settings)
    order = random.Random(settings.seed)
    pairs = list(zip(*sides, strict=False))
    order.shuffle(pairs)
    builder = session.builder()
    prompts = [builder.binary(example) for pair in pairs for example in pair]
    return prompts if direction == "negative" else [one.mirrored() for one in prompts]
