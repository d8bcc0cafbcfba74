"""Single answers: those that changed, and where the heads look."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest

import torch

from nasalign.nas.attention_scores import nas_terms
from nasalign.reporting.report.data_sets import DataSet, is_right, outcome, shift
from nasalign.reporting.report.run_folder import SIDES, Row, RunFiles
from nasalign.reporting.report.tables import FREE_ANSWERS

MOST_EXAMPLES = 200
"""Changed examples that a report shows at most."""
MOST_NUMBERS = 120_000
"""Attention weights that a report holds at most, about a megabyte."""
NEW_LINE = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
_LONGEST = 1200  # characters of a question


def changed_examples(sets: Sequence[DataSet], words: tuple[str, str]) -> tuple[list[Row], int]:
    """Return examples whose answer changed, and how many there are in all.

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
    chosen, room = [], MOST_EXAMPLES
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
        "knowledge": FREE_ANSWERS.get(old.get("knowledge", ""), ""),
        "prediction": _clipped(old.get("prediction", "")),
    }


def _said(row: Row, words: tuple[str, str]) -> Row:
    said = {"positive": words[0], "negative": words[1]}.get(row["verdict"], "neither")
    wrote = _clipped(row.get("generated", ""))
    return {"said": said, "p_yes": row["p_yes"], "p_no": row["p_no"], "wrote": wrote}


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def attention(files: RunFiles) -> tuple[list[Row], int]:
    """Return the examples of ``attention.json`` that fit into a report, and how many there are."""
    examples = (files.attention or {}).get("examples", [])
    chosen: list[Row] = []
    numbers = 0
    for example in examples:
        numbers += sum(4 * len(head["before"]["yes"]) for head in example["attention"])
        if chosen and numbers > MOST_NUMBERS:
            break
        chosen.append(example | {"attention": [_pulled(head) for head in example["attention"]]})
    return chosen, len(examples)


def _pulled(head: Row) -> Row:
    """A head with short weights, and each row's ``pull``: its part of the head's NAS (Eq. 1).

    It is the root of the part by the largest of both sides, so that small ones show too: from -1,
    toward the positive word, to 1, toward the negative one.
    """
    terms = {}
    for side in SIDES:
        weights = torch.tensor([head[side]["yes"], head[side]["no"]], dtype=torch.float64).T
        terms[side] = nas_terms(weights)
    most = max([float(part.abs().max()) for part in terms.values() if len(part)], default=0.0)
    found = dict(head)
    for side, part in terms.items():
        pull = part.sign() * (part.abs() / (most or 1.0)).sqrt()
        short = {word: [float(f"{one:.3g}") for one in head[side][word]] for word in ("yes", "no")}
        found[side] = short | {"pull": [round(one, 3) for one in pull.tolist()]}
    return found


def painted(example: Row, head: Row, side: str, words: tuple[str, str]) -> list[Row]:
    """Return the tokens of an example, as a head of ``attention`` sees them.

    Returns:
        A row a token: ``text``, with a sign at a new line; ``word``, which is ``yes`` or ``no`` at
        the answer words; ``toward``, where it pulls, ``pull``, 0 to 1, and ``title`` with the
        weights. The instruction's tokens pull nowhere: the sum starts after them.
    """
    rows, of = [], head[side]
    for place, text in enumerate(example["tokens"]):
        word = {example["yes"]: "yes", example["no"]: "no"}.get(place, "")
        row = {"text": text.replace("\n", f"{NEW_LINE}\n"), "word": word, "toward": ""}
        at = place - example["first_row"]
        if 0 <= at < len(of["pull"]):
            row["toward"] = "no" if of["pull"][at] > 0 else "yes"
            row["pull"] = abs(of["pull"][at])
            row["title"] = f"to {words[0]} {of['yes'][at]:.3g}, to {words[1]} {of['no'][at]:.3g}"
        rows.append(row)
    return rows
