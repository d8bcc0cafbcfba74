"""The code of a written task, copied beside it: lm_eval then needs no nasalign.

lm_eval gives the log likelihood of each text in ``choices``, which is one token by which an answer
can begin. A word's probability is the sum over its tokens, as in nasalign's decoder ``logits``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VERDICTS = ("positive", "negative", "unsure")
"""The meaning of the numbers in ``words``."""


def documents(file: str, **_: object) -> dict[str, Any]:
    """Return the documents of a task, from a file beside this one; lm_eval passes metadata too."""
    from datasets import Dataset

    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").split("\n")
    return {"test": Dataset.from_list([json.loads(line) for line in lines if line])}


def log_probabilities(doc: Mapping[str, Any], results: Sequence[Sequence[Any]]) -> list[float]:
    """Return the log probability of each word, in the order of ``VERDICTS``.

    ``results`` has for each choice its log likelihood, and whether it is the likeliest text. Where
    the prompt ends in white space, all lack the same summand: lm_eval counts it to the answer.
    """
    words = doc["words"]
    return [
        _log_sum(
            [float(result[0]) for result, mine in zip(results, words, strict=True) if mine == word]
        )
        for word in range(max(words) + 1)
    ]


def verdict(doc: Mapping[str, Any], results: Sequence[Sequence[Any]]) -> str:
    """Return the verdict of the most probable word; a tie is invalid."""
    found = log_probabilities(doc, results)
    best = [word for word, value in enumerate(found) if value == max(found)]
    return VERDICTS[best[0]] if len(best) == 1 else "invalid"


def process_results(doc: Mapping[str, Any], results: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return a document's contribution to the metrics ``acc``, ``f1`` and ``yes_rate``."""
    said = verdict(doc, results)
    right = VERDICTS[0] if doc["label"] else VERDICTS[1]
    return {
        "acc": float(said == right),
        "f1": (bool(doc["label"]), said),
        "yes_rate": float(said == VERDICTS[0]),
    }


def f1(items: Sequence[tuple[bool, str]]) -> float:
    """Return F1 of the positive word over the valid answers; 0/0 counts as 0."""
    valid = [(label, said == VERDICTS[0]) for label, said in items if said in VERDICTS[:2]]
    hits = sum(label and says for label, says in valid)
    either = sum(label + says for label, says in valid)
    return 2 * hits / either if either else 0.0


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top if math.isinf(top) else top + math.log(sum(math.exp(value - top) for value in logs))
