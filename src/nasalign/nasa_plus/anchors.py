"""Pairs that need no data of the user's, of many kinds: they keep other domains balanced.

What is trained on one kind of question alone leans to one side on the next (docs/study.md). All of
these are made of the embedded facts and of small sums, and none has a subject that is evaluated.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from nasalign.data.binary import sample
from nasalign.data.records import BinaryExample, Question, Split, load_facts, load_relations
from nasalign.nasa_plus.kinds import Pair, held_back, pairs_of

STATEMENTS = 3
"""Sentences of a context."""
LONG = 20
"""Sentences of a long one."""
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
SAME = {  # relation: do two subjects have the same object?
    "animal_class": "Do the {} and the {} belong to the same group of animals?",
    "artwork_artist": "Were {} and {} created by the same artist?",
    "birth_country": "Were {} and {} born in what is now the same country?",
    "book_author": "Are the books {} and {} by the same author?",
    "city_country": "Are the cities of {} and {} in the same country?",
    "composer": "Are {} and {} by the same composer?",
    "continent": "Are {} and {} on the same continent?",
    "currency": "Do {} and {} use the same currency?",
    "film_director": "Do the films {} and {} have the same director?",
    "food_origin": "Did the foods {} and {} originate in the same country?",
    "instrument": "Are {} and {} best known for playing the same instrument?",
    "landmark_country": "Can {} and {} be found in the same country?",
    "main_language": "Do {} and {} have the same main language?",
    "moon_planet": "Do the moons {} and {} orbit the same planet?",
    "sport": "Are {} and {} best known for the same sport?",
    "us_city_state": "Are the US cities of {} and {} in the same state?",
}
ORDER = {  # relation: is the object of the first larger?
    "atomic_number": "Does {} have a higher atomic number than {}?",
    "event_year": "Did {} take place after {}?",
    "polygon_sides": "Does {} have more sides than {}?",
}
NAMED = (  # relations whose subjects have names of their own, which can be made up
    "artwork_artist",
    "birth_country",
    "book_author",
    "city_country",
    "composer",
    "film_director",
    "instrument",
    "landmark_country",
    "sport",
    "us_city_state",
)
SYLLABLES = ("bal", "dor", "fen", "gri", "kel", "lum", "mor", "nav", "ost", "pra", "ril", "sel")
THINGS = ("apples", "books", "coins", "tickets", "stamps", "eggs", "pencils", "shells")


def direct_pairs(facts: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Pair]:
    """Return pairs of embedded facts as yes/no questions: "Is Oslo the capital of Norway?"."""
    paired = zip(facts, pairs_of(facts, pool, seed), strict=True)  # each fact has a wrong answer
    return [
        replace(pair, right=_direct(pair.right, fact), wrong=_direct(pair.wrong, fact))
        for fact, pair in paired
    ]


def negated_pairs(facts: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Pair]:
    """Return pairs of embedded facts that ask whether the answer is *not* so.

    The wrong answer is then to be affirmed, and the right one to be denied.
    """
    return [
        Pair(
            pair.subject,
            right=replace(pair.wrong, label=True, negated=True),
            wrong=replace(pair.right, label=False, negated=True),
        )
        for pair in pairs_of(facts, pool, seed)
    ]


def context_pairs(
    facts: Sequence[Question], pool: Sequence[Question], seed: int, statements: int = STATEMENTS
) -> list[Pair]:
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
        others = [one for one in rng.sample(pool, statements + 2) if one not in (fact, owner)]
        stated = (named + others)[:statements]
        rng.shuffle(stated)
        context = " ".join(map(_statement, stated))
        pair = forms[place % 2][place]
        right, wrong = (replace(one, context=context) for one in (pair.right, pair.wrong))
        pairs.append(Pair(pair.subject, right, wrong))
    return pairs


def compared_pairs(pool: Sequence[Question], count: int, seed: int) -> list[Pair]:
    """Return pairs that compare two subjects: "Are Oslo and Bergen in the same country?".

    The wrong twin has another second subject or, where numbers are compared, the same two the other
    way round. All subjects of a pair are held back, or none is.
    """
    rng = random.Random(f"{seed}/compared")
    parts: dict[tuple[str, bool], list[Question]] = {}
    for fact in pool:
        if fact.kind in SAME or fact.kind in ORDER:
            parts.setdefault((fact.kind, held_back(fact.about, seed)), []).append(fact)
    first = [fact for part in parts.values() for fact in part]
    rng.shuffle(first)
    pairs: list[Pair] = []
    for fact in first:
        if len(pairs) == count:
            break
        rest = parts[fact.kind, held_back(fact.about, seed)]
        same = [one for one in rest if one.answer == fact.answer and one != fact]
        others = [one for one in rest if one.answer != fact.answer]
        if fact.kind in SAME and same and others:
            text, twins = SAME[fact.kind], (rng.choice(same), rng.choice(others))
            asked = [text.format(fact.subject, twin.subject) for twin in twins]
        elif fact.kind in ORDER and others:
            two = sorted((fact, rng.choice(others)), key=_size, reverse=True)
            names = [one.subject for one in two]
            asked = [ORDER[fact.kind].format(*order) for order in (names, names[::-1])]
        else:
            continue
        right, wrong = (
            BinaryExample(_capital(text), label)
            for text, label in zip(asked, (True, False), strict=True)
        )
        pairs.append(Pair(fact.about, right, wrong))
    return pairs


def unknowable_pairs(pool: Sequence[Question], count: int, seed: int) -> list[Pair]:
    """Return pairs about names that are made up: neither answer is more right than the other."""
    rng = random.Random(f"{seed}/unknowable")
    kinds = sorted({one.kind for one in pool} & set(NAMED))
    pairs = []
    for place in range(count):
        kind = kinds[place % len(kinds)]
        answers = rng.sample(sorted({one.answer for one in pool if one.kind == kind}), 2)
        name = "".join(rng.sample(SYLLABLES, 3)).capitalize()
        asked = Question(load_relations()[kind].question.format(subject=name), "", subject=name)
        right, wrong = (
            BinaryExample(asked.question, label, answer)
            for answer, label in zip(answers, (True, False), strict=True)
        )
        pairs.append(Pair(asked.about, right, wrong))
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


def anchors(sizes: Mapping[str, int], seed: int, split: Split = "probing") -> dict[str, list[Pair]]:
    """Return pairs of the kinds of this module, by kind.

    ``direct``, ``context``, ``negated`` and ``long`` are embedded facts in other forms than
    Prompt I, each about other subjects; ``compared`` and ``unknowable`` are of the same facts;
    ``numbers`` are small sums.

    Args:
        sizes: pairs of each kind; those of a kind that is not there are left out.
        seed: of what is drawn.
        split: of whose subjects they are.
    """
    pool = load_facts(split)
    forms: dict[str, Callable[[list[Question], list[Question], int], list[Pair]]] = {
        "direct": direct_pairs,
        "context": context_pairs,
        "negated": negated_pairs,
        "long": partial(context_pairs, statements=LONG),
    }
    drawn = sample(pool, sum(sizes.get(kind, 0) for kind in forms), seed)
    random.Random(f"{seed}/anchors").shuffle(drawn)
    found: dict[str, list[Pair]] = {}
    for kind, make in forms.items():
        size = sizes.get(kind, 0)
        found[kind] = make(drawn[:size], pool, seed)
        del drawn[:size]
    found["compared"] = compared_pairs(pool, sizes.get("compared", 0), seed)
    found["unknowable"] = unknowable_pairs(pool, sizes.get("unknowable", 0), seed)
    found["numbers"] = number_pairs(sizes.get("numbers", 0), seed)
    return {kind: pairs for kind, pairs in found.items() if pairs}


def _direct(example: BinaryExample, fact: Question) -> BinaryExample:
    text = load_relations()[fact.kind].direct.format(subject=fact.subject, object=example.answer)
    return replace(example, question=_capital(text), answer=None)


def _statement(fact: Question) -> str:
    text = load_relations()[fact.kind].statement.format(subject=fact.subject, object=fact.answer)
    return _capital(text)


def _size(fact: Question) -> float:
    return float(fact.answer)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
