"""How the tuned heads attend to Yes and No before and after, on answers that changed."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from nasalign.adapters.adapter import Adapter, rows_put_back
from nasalign.data.binary import sample
from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.responses import kind_of
from nasalign.inference.attention_map import HeadAttention, attention_map, readable_tokens
from nasalign.io.files import read_json, write_json
from nasalign.nas.heads import Head
from nasalign.prompts.builder import BinaryPrompt
from nasalign.session import Session

FILE = "attention.json"
EXAMPLES = 8
HEADS = 6
HEADS_WITHOUT_CHANGE = 3

Place = tuple[int, int]
"""Layer and head."""


def record_attention(
    session: Session,
    adapter: Adapter,
    heads: Sequence[tuple[int, int]],
    shots: Sequence[BinaryExample],
    before: Evaluation,
    after: Evaluation,
) -> None:
    """Write ``attention.json``: Figures 3, 6 and 7 for this model, if there is a run directory.

    Nothing is written where the prompts do not name both answer words.

    Args:
        session: with the aligned model, which is left as it was.
        adapter: the change.
        heads: layer and head of those that are shown.
        shots: examples in the prompts.
        before: evaluation of the untouched model.
        after: evaluation of the aligned model on the same examples.
    """

    def make() -> dict[str, Any]:
        model, builder = session.model, session.builder(shots)
        old, new = before.rows(), after.rows()
        chosen = _examples(old, new, session.settings.seed)
        prompts = [builder.binary(before.examples[place]) for place in chosen]
        with session.run.timed("attention"), rows_put_back(model, adapter):
            adapter.revert(model)
            untouched = attention_map(model, prompts, heads)
            adapter.apply(model)
            aligned = attention_map(model, prompts, heads)
        examples = [
            {
                "question": before.examples[place].asked,
                "label": before.examples[place].label,
                "before": _verdict(old[place]),
                "after": _verdict(new[place]),
            }
            | _along(session.tokenizer, prompt, *maps)
            for place, prompt, *maps in zip(chosen, prompts, untouched, aligned, strict=True)
        ]
        return {"heads": heads, "examples": examples}

    if session.run.folder and session.builder().names_words:
        session.run.cached(FILE, make, write_json, read_json)


def heads_to_show(
    kept: Sequence[tuple[int, int]], selected: Sequence[Head]
) -> list[tuple[int, int]]:
    """Return the heads whose attention is shown: the kept ones, or the first selected."""
    return list(kept[:HEADS]) or [head[:2] for head in selected[:HEADS_WITHOUT_CHANGE]]


def _examples(old: list[dict[str, Any]], new: list[dict[str, Any]], seed: int) -> list[int]:
    """Which examples are shown: as many as can be of each way of turning to Yes, then others.

    Where no verdict changed, false negatives are shown.
    """
    ways: dict[str, list[int]] = {"FN": [], "TN": [], "other": [], "unchanged": []}
    for place, (mine, other) in enumerate(zip(old, new, strict=True)):
        kind = kind_of(mine)
        if mine["verdict"] == other["verdict"]:
            if kind == "FN":
                ways["unchanged"].append(place)
        elif kind in ("FN", "TN") and other["verdict"] == "positive":
            ways[kind].append(place)
        else:
            ways["other"].append(place)
    if not any(ways[way] for way in ("FN", "TN", "other")):
        return sample(ways["unchanged"], EXAMPLES, seed)
    false_negatives, true_negatives = (sample(ways[way], EXAMPLES, seed) for way in ("FN", "TN"))
    half = EXAMPLES // 2
    first = false_negatives[:half] + true_negatives[:half]
    rest = false_negatives[half:] + true_negatives[half:] + sample(ways["other"], EXAMPLES, seed)
    return (first + rest)[:EXAMPLES]


def _verdict(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("verdict", "p_yes", "p_no")}


def _along(
    tokenizer: PreTrainedTokenizerBase,
    prompt: BinaryPrompt,
    before: list[HeadAttention],
    after: list[HeadAttention],
) -> dict[str, Any]:
    """The attention along a prompt, and where in it what stands."""
    return {
        "tokens": readable_tokens(tokenizer, prompt.token_ids),
        "yes": prompt.positive_position,
        "no": prompt.negative_position,
        "first_row": prompt.first_row,
        "attention": [_head(*pair) for pair in zip(before, after, strict=True)],
    }


def _head(before: HeadAttention, after: HeadAttention) -> dict[str, Any]:
    return {
        "layer": before.layer,
        "head": before.head,
        "nas_before": before.nas,
        "nas_after": after.nas,
        "before": _weights(before),
        "after": _weights(after),
    }


def _weights(attention: HeadAttention) -> dict[str, list[float]]:
    """Softmax weights by row, to five digits: a prompt may have thousands of rows."""
    return {
        name: [float(f"{weight:.5g}") for weight in weights.tolist()]
        for name, weights in (("yes", attention.positive), ("no", attention.negative))
    }
