"""Yes/no samples in pairs, each with its twin of the other label.

The two of a pair differ in the answer that is asked about, so what tells them apart is whether the
answer is right, and nothing that leans either way. Where the model cannot know, one of the two is
right all the same: the only way to a small loss is then a probability near one half.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nasalign.data.binary import to_binary
from nasalign.data.records import BinaryExample, Question, place_of

HELD_BACK = 0.15
"""Share of the subjects whose pairs choose the epoch and are never trained on."""


@dataclass(frozen=True)
class Pair:
    """The same question with its right answer, to be affirmed, and with a wrong one, to be denied.

    ``subject`` is compared to keep a subject on one side of a split.
    """

    subject: str
    right: BinaryExample
    wrong: BinaryExample


def pairs_of(questions: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Pair]:
    """Return a pair for each question that has a wrong answer, in their order."""
    binary = to_binary(questions, seed, pool, sides="both")
    asked = (questions[origin] for origin in binary.origins[::2])
    return [
        Pair(one.about, right, wrong)
        for one, right, wrong in zip(
            asked, binary.examples[::2], binary.examples[1::2], strict=True
        )
    ]


def row_pairs(rows: Sequence[BinaryExample], seed: int) -> list[Pair]:
    """Return pairs of labelled rows, one of each label.

    Rows of one subject are paired with each other, the rest at random, but a row that may be
    trained on never with a held-back one. Where one label is rarer, its rows come up to three
    times.
    """
    rng, pairs = random.Random(f"{seed}/rows"), []
    for side in (False, True):
        mine = [one for one in rows if held_back(one.about, seed) is side]
        rng.shuffle(mine)
        by_label = {label: [one for one in mine if one.label is label] for label in (True, False)}
        by_label = {label: sorted(part, key=_about) for label, part in by_label.items()}
        twins, rest = _twins(by_label[True], by_label[False])
        pairs += twins
        rarer = min(map(len, by_label.values()))
        if not rarer:
            continue
        left = [rest[label] or by_label[label] for label in (True, False)]
        count = min(max(map(len, rest.values())), 3 * rarer)
        for part in left:
            rng.shuffle(part)
        for place in range(count):
            right, wrong = (part[place % len(part)] for part in left)
            pairs.append(Pair(right.about, right, wrong))
    return pairs


def _about(row: BinaryExample) -> str:
    return row.about


def _twins(
    right: Sequence[BinaryExample], wrong: Sequence[BinaryExample]
) -> tuple[list[Pair], dict[bool, list[BinaryExample]]]:
    """Pairs of rows of the same subject, and the rows by label that are in none."""
    waiting: dict[str, list[BinaryExample]] = {}
    for one in wrong:
        waiting.setdefault(one.about, []).append(one)
    pairs, alone = [], []
    for one in right:
        if waiting.get(one.about):
            pairs.append(Pair(one.about, one, waiting[one.about].pop()))
        else:
            alone.append(one)
    return pairs, {True: alone, False: [one for part in waiting.values() for one in part]}


def held_back(subject: str, seed: int) -> bool:
    """Whether the pairs of a subject choose the epoch; the same for all kinds."""
    return place_of(f"{seed}/{subject}") < HELD_BACK
