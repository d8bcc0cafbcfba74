"""Rows that need no more than the model, or the paper's method: untouched, NASA, its ablations."""

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from transformers import PreTrainedModel

from nasalign.adapters.adapter import Adapter
from nasalign.alignment import tune_rows
from nasalign.evaluation.side_effects import change_of
from nasalign.io.storage import remove_folder
from nasalign.nas.heads import Head, single_head_nas
from nasalign.nasa.algorithm import HeadRecord
from nasalign.nasa.head_tuning import choose_heads
from nasalign.nasa.probing import ProbingSet, check_probing_set
from nasalign.rivals.rival import Fitted, Material, Rival
from nasalign.session import Session

IN_WEIGHTS = "nothing"
"""What a change of the weights needs when the model is served."""


def _nasa(material: Material) -> Fitted:
    return _tuned(material, _selected(material), material.session)


def _query_only(material: Material) -> Fitted:
    return _tuned(material, _selected(material), material.session.with_settings(k_scope="none"))


def _random(material: Material) -> Fitted:
    count, draw = len(_selected(material)), f"{material.settings.seed}/random-0"
    return _tuned(material, random_heads(material.probing, count, draw), material.session)


def _selected(material: Material) -> list[Head]:
    check_probing_set(material.probing)
    return choose_heads(material.session, material.probing)


def random_heads(probing: ProbingSet, count: int, draw: str) -> list[Head]:
    """Returns heads drawn from all, of falling single head NAS (Table 20).

    Args:
        probing: what their NAS is of.
        count: how many.
        draw: seed of the draw.
    """
    mean = single_head_nas(probing.nas)
    places = [(layer, head) for layer in range(len(mean)) for head in range(len(mean[0]))]
    drawn = random.Random(draw).sample(places, count)
    heads = [Head(*place, float(mean[place])) for place in drawn]
    return sorted(heads, key=lambda head: -head.nas)


def _tuned(material: Material, heads: Sequence[Head], session: Session) -> Fitted:
    """Run Algorithm 1 on heads, and leave the model as it was."""
    history, adapter = tune_rows(session, material.probing, heads)
    if session.run.folder:
        remove_folder(session.run.folder / "checkpoint")
    records = [one for one in history if isinstance(one, HeadRecord)]
    chosen = {
        "heads": len(heads),
        "tried": len(records),
        "kept": [[one.layer, one.head] for one in records if one.kept],
    }
    return taken_off(adapter, session.model, chosen)


def taken_off(adapter: Adapter, model: PreTrainedModel, chosen: Mapping[str, Any]) -> Fitted:
    """Takes tuned rows off the model and returns them as what fitting leaves."""
    adapter.revert(model)
    on = change_of(adapter) if adapter.after else nullcontext
    return Fitted(on=on, parameters=adapter.parameters, chosen=chosen)


UNTOUCHED = Rival("untouched", "untouched", IN_WEIGHTS, False, lambda material: Fitted())
RANDOM = Rival("random", "random heads, tuned as NASA's (Table 20)", IN_WEIGHTS, False, _random)
QUERY_ONLY = Rival(
    "query-only", "NASA, query rows alone (Table 19)", IN_WEIGHTS, False, _query_only
)
NASA = Rival("nasa", "NASA (Yu et al., 2025)", IN_WEIGHTS, False, _nasa)
