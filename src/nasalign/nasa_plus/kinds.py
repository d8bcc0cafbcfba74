"""Yes/no samples of several kinds, each with its twin of the other label.

The two of a pair differ in the answer that is asked about, so what tells them apart is whether the
answer is right, and nothing that leans either way. Where the model cannot know, one of the two is
right all the same: the only way to a small loss is then a probability near one half.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nasalign.data.binary import sample, to_binary
from nasalign.data.records import (
    BinaryExample,
    Question,
    load_facts,
    load_relations,
    place_of,
)

HELD_BACK = 0.15
"""Share of the subjects whose pairs choose the epoch and are never trained on."""
STATEMENTS = 3  # sentences of a context
PROBLEMS = (  # two numbers, and what becomes of them
    ("{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?", "+"),
    ("There are {a} {things} in a box, and {name} takes {b} away. How many are left?", "-"),
    ("{name} buys {a} packs with {b} {things} in each. How many {things} are there in all?", "*"),
    ("On Monday {name} counts {a} {things}, on Tuesday {b}. How many are that in total?", "+"),
    ("A shop had {a} {things} and sold {b} of them to {name}. How many does it still have?", "-"),
    ("What is {a} plus {b}?", "+"),
    ("What is {a} minus {b}?", "-"),
    ("What is {a} times {b}?", "*"),
)
NAMES = ("Anna", "Omar", "Mei", "Tom", "Lucia", "Ivan", "Fatima", "Jack")
THINGS = ("apples", "books", "coins", "tickets", "stamps", "eggs", "pencils", "shells")


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


def direct_pairs(facts: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Pair]:
    """Return pairs of embedded facts as yes/no questions: "Is Oslo the capital of Norway?"."""
    paired = zip(facts, pairs_of(facts, pool, seed), strict=True)  # each fact has a wrong answer
    return [
        replace(pair, right=_direct(pair.right, fact), wrong=_direct(pair.wrong, fact))
        for fact, pair in paired
    ]


def context_pairs(facts: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Pair]:
    """Return pairs of embedded facts below a context of some statements.

    In turn the context states the right answer alone, the right and the wrong one (as the answer to
    something else), and neither: so a context may help, but that an answer is named in it, or is
    not, says little. Every other pair is asked directly, the others by "Is the answer ...?".
    """
    rng = random.Random(f"{seed}/context")
    forms = (pairs_of(facts, pool, seed), direct_pairs(facts, pool, seed))
    owners = {(one.kind, one.answer): one for one in pool}
    pairs = []
    for place, fact in enumerate(facts):
        owner = owners[fact.kind, str(forms[0][place].wrong.answer)]
        named = ([fact], [fact, owner], [])[place % 3]
        others = [one for one in rng.sample(pool, STATEMENTS + 2) if one not in (fact, owner)]
        stated = (named + others)[:STATEMENTS]
        rng.shuffle(stated)
        context = " ".join(map(_statement, stated))
        pair = forms[place % 2][place]
        right, wrong = (replace(one, context=context) for one in (pair.right, pair.wrong))
        pairs.append(Pair(pair.subject, right, wrong))
    return pairs


def number_pairs(count: int, seed: int) -> list[Pair]:
    """Return pairs of small sums, as they occur in word problems; the wrong result is near."""
    rng = random.Random(f"{seed}/numbers")
    pairs = []
    for place in range(count):
        text, sign = PROBLEMS[place % len(PROBLEMS)]
        a, b = rng.randint(12, 90), rng.randint(3, 11)
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        near = rng.choice(
            [result + off for off in (-10, -3, -2, -1, 1, 2, 3, 10) if result + off > 0]
        )
        asked = text.format(a=a, b=b, name=rng.choice(NAMES), things=rng.choice(THINGS))
        right, wrong = (
            BinaryExample(asked, label, str(value))
            for label, value in ((True, result), (False, near))
        )
        pairs.append(Pair(asked.casefold(), right, wrong))
    return pairs


def anchors(sizes: Mapping[str, int], seed: int) -> dict[str, list[Pair]]:
    """Return pairs that need no data, by kind and size: they keep other domains balanced.

    ``direct`` and ``context`` are embedded facts of the probing split's subjects in other forms
    than Prompt I; ``numbers`` are small sums.
    """
    pool = load_facts("probing")
    drawn = sample(pool, sizes["direct"] + sizes["context"], seed)
    random.Random(f"{seed}/anchors").shuffle(drawn)
    return {
        "direct": direct_pairs(drawn[: sizes["direct"]], pool, seed),
        "context": context_pairs(drawn[sizes["direct"] :], pool, seed),
        "numbers": number_pairs(sizes["numbers"], seed),
    }


def _direct(example: BinaryExample, fact: Question) -> BinaryExample:
    text = load_relations()[fact.kind].direct.format(subject=fact.subject, object=example.answer)
    return replace(example, question=_capital(text), answer=None)


def _statement(fact: Question) -> str:
    text = load_relations()[fact.kind].statement.format(subject=fact.subject, object=fact.answer)
    return _capital(text)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
