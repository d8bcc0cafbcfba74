"""Single answers: what they changed to, by what the model knows, and where the heads look."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from nasalign.evaluation.responses import shift_ratios
from nasalign.reporting.report.data_sets import DataSet, is_right, outcome, shift
from nasalign.reporting.report.run_folder import Row, RunFiles

MOST_EXAMPLES = 200
"""Changed examples that a report shows at most."""
MOST_NUMBERS = 120_000
"""Attention weights that a report holds at most, about a megabyte."""
NEW_LINE = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
_LONGEST = 1200  # characters of a question
_KNOWN = {"Det-T": "right", "Det-F": "wrong", "Non-Det": "none"}


def contingency(data: DataSet) -> list[dict[str, Any]]:
    """Returns the outcomes before by those after, a table for each label.

    Returns:
        By label ``kinds`` and ``rows``: what it was before, the counts after, and their sum.
    """
    tables = []
    for label, kinds in ((True, ("TP", "FN", "invalid")), (False, ("TN", "FP", "invalid"))):
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for old, new in data.pairs:
            if old["label"] == label:
                counts[outcome(old), outcome(new)] += 1
        used = [kind for kind in kinds if any(kind in pair for pair in counts)]
        rows = [
            (old, [counts[old, new] for new in used], sum(counts[old, new] for new in used))
            for old in used
        ]
        if rows:
            tables.append({"label": label, "kinds": used, "rows": rows})
    return tables


def by_knowledge(data: DataSet) -> list[dict[str, Any]]:
    """Returns which share of No became Yes, by the free answer (Tables 17 and 18); may be empty."""
    if not data.pairs or not all(
        "knowledge" in old and "confident" in old for old, _ in data.pairs
    ):
        return []
    before, after = data.rows["before"], data.rows["after"]
    ratios = {kind: shift_ratios(before, after, kind).cells for kind in ("FN", "TN")}
    return [
        {
            "answer": _KNOWN[missed.response],
            "confidence": missed.confidence.lower(),
            "FN": missed,
            "TN": rightly,
        }
        for missed, rightly in zip(ratios["FN"], ratios["TN"], strict=True)
    ]


def changed_examples(sets: Sequence[DataSet], words: tuple[str, str]) -> tuple[list[Row], int]:
    """Returns examples whose answer changed, and how many there are in all.

    Where there are too many, each data set and kind of change gives as many as the others as far
    as it has them, evenly from its first to its last.
    """
    kinds: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for data in sets:
        for old, new in data.pairs:
            if old["verdict"] != new["verdict"]:
                kinds[data.name, shift(old, new)].append(_example(data.name, old, new, words))
    total = sum(map(len, kinds.values()))
    lists = sorted((kinds[name] for name in sorted(kinds)), key=len)  # the shortest first
    chosen: list[list[Row]] = []
    room = MOST_EXAMPLES
    for place, part in enumerate(lists):
        count = min(len(part), room // (len(lists) - place))
        chosen.append([part[at * len(part) // count] for at in range(count)])
        room -= count
    mixed = chain.from_iterable(zip_longest(*chosen))
    return [example for example in mixed if example is not None], total


def _example(name: str, old: Row, new: Row, words: tuple[str, str]) -> Row:
    return {
        "data": name,
        "shift": shift(old, new),
        "right": is_right(outcome(new)),
        "question": _clipped(old["question"]),
        "answer": old.get("answer"),
        "wanted": words[0] if old["label"] else words[1],
        "before": _said(old, words),
        "after": _said(new, words),
        "knowledge": _KNOWN.get(old.get("knowledge", ""), ""),
        "prediction": _clipped(old.get("prediction", "")),
    }


def _said(row: Row, words: tuple[str, str]) -> Row:
    said = {"positive": words[0], "negative": words[1]}.get(row["verdict"], "neither")
    wrote = _clipped(row.get("generated", ""))
    return {"said": said, "p_yes": row["p_yes"], "p_no": row["p_no"], "wrote": wrote}


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def attention(files: RunFiles) -> tuple[list[Row], int]:
    """Returns the examples of ``attention.json`` that fit into a report, and how many there are."""
    examples = (files.attention or {}).get("examples", [])
    chosen: list[Row] = []
    numbers = 0
    for example in examples:
        heads = [_rounded(head) for head in example["attention"]]
        numbers += sum(4 * len(head["before"]["yes"]) for head in heads)
        if chosen and numbers > MOST_NUMBERS:
            break
        chosen.append(example | {"attention": heads})
    return chosen, len(examples)


def _rounded(head: Row) -> Row:
    sides = {
        side: {word: [float(f"{weight:.3g}") for weight in weights] for word, weights in of.items()}
        for side, of in head.items()
        if side in ("before", "after")
    }
    return head | sides


def painted(example: Row, head: Row, side: str, words: tuple[str, str]) -> list[Row]:
    """Returns the tokens of an example, each with what it adds to a head's NAS (Eq. 1).

    Returns:
        A row a token: ``text``, with a sign at a new line; ``word``, which is ``yes`` or ``no`` at
        the answer words; ``toward``, where it pulls; ``pull``, 0 to 1, the root of its part by the
        largest of both sides, so that small ones show too; and ``title`` with the weights. The
        script of the page does the same for the other heads and examples.
    """
    first = example["first_row"]
    most = max((abs(one) for of in ("before", "after") for one in _pulls(head[of])), default=0.0)
    pulls, weights = _pulls(head[side]), list(zip(head[side]["yes"], head[side]["no"], strict=True))
    rows = []
    for place, text in enumerate(example["tokens"]):
        word = {example["yes"]: "yes", example["no"]: "no"}.get(place, "")
        row = {"text": text.replace("\n", f"{NEW_LINE}\n"), "word": word, "toward": ""}
        if first <= place < first + len(pulls):
            pull, (yes, no) = pulls[place - first], weights[place - first]
            row["toward"] = "no" if pull > 0 else "yes"
            row["pull"] = math.sqrt(abs(pull) / most) if most else 0.0
            row["title"] = f"to {words[0]} {yes:.3g}, to {words[1]} {no:.3g}"
        rows.append(row)
    return rows


def _pulls(weights: Row) -> list[float]:
    """Each row's part of NAS; 0 where a word is masked."""
    return [
        (yes + no) * math.log(no / yes) if yes > 0 and no > 0 else 0.0
        for yes, no in zip(weights["yes"], weights["no"], strict=True)
    ]
