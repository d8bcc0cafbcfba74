"""The rows that tune heads, NASA, its ablations and nasa+; and the untouched model."""

import random
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from nasalign.adapters.adapter import Adapter
from nasalign.alignment import correct_jointly, tune_rows
from nasalign.io.storage import remove_folder
from nasalign.nas.heads import Head, places, single_head_nas
from nasalign.nasa.decisions import HeadRecord
from nasalign.nasa.head_tuning import choose_heads
from nasalign.nasa.probing import ProbingSet, check_probing_set
from nasalign.nasa_plus.joint_pairs import JointRecord
from nasalign.rivals.rival import Fitted, Material, Rival

IN_WEIGHTS = "nothing"
"""What a change of the weights needs when the model is served."""


def _nasa(
    material: Material, changes: Mapping[str, Any] | None = None, drawn: bool = False
) -> Fitted:
    """Run Algorithm 1 on the selected heads, or on as many drawn ones, and revert the model."""
    session, probing = material.session.with_settings(**(changes or {})), material.probing
    check_probing_set(probing)
    heads = choose_heads(session, probing)
    if drawn:
        heads = random_heads(probing, len(heads), f"{session.settings.seed}/random-0")
    history, adapter = tune_rows(session, probing, heads)
    if session.run.folder:
        remove_folder(session.run.folder / "checkpoint")
    records = [one for one in history if isinstance(one, HeadRecord)]
    kept = [[one.layer, one.head] for one in records if one.kept]
    chosen = {"heads": len(heads), "tried": len(records), "kept": kept}
    return reverted(adapter, session.model, chosen)


def random_heads(probing: ProbingSet, count: int, draw: str) -> list[Head]:
    """Draw heads by the seed ``draw``, ordered by falling single head NAS (Table 20)."""
    mean = single_head_nas(probing.nas)
    drawn = random.Random(draw).sample(places(mean), count)
    heads = [Head(*place, float(mean[place])) for place in drawn]
    return sorted(heads, key=lambda head: -head.nas)


def reverted(adapter: Adapter, model: PreTrainedModel, chosen: Mapping[str, Any]) -> Fitted:
    """Revert a tuned model, and return its adapter as what fitting returns."""
    adapter.revert(model)
    on = adapter.on if adapter.after else nullcontext  # without a change nothing is measured again
    return Fitted(on=on, parameters=adapter.trained, chosen=chosen)


def _nasa_plus(material: Material) -> Fitted:
    # What each head carries is for the report of an alignment.
    result = correct_jointly(material.session, material.asked, material.probing, explain=False)
    kept = [one for one in result.history if isinstance(one, JointRecord) and one.kept]
    rate = {"learning rate": kept[-1].learning_rate} if kept[-1].epoch else {}
    chosen = {**rate, "heads": len(result.heads), "epoch": kept[-1].epoch}
    return reverted(result.adapter, material.model, chosen)


UNTOUCHED = Rival("untouched", "untouched", IN_WEIGHTS, False, lambda material: Fitted())
RANDOM = Rival(
    "random",
    "random heads, tuned as NASA's (Table 20)",
    IN_WEIGHTS,
    False,
    partial(_nasa, drawn=True),
    asked_for=True,
)
QUERY_ONLY = Rival(
    "query-only",
    "NASA, query rows alone (Table 19)",
    IN_WEIGHTS,
    False,
    partial(_nasa, changes={"k_scope": "none"}),
    asked_for=True,
)
NASA = Rival("nasa", "NASA (Yu et al., 2025)", IN_WEIGHTS, False, _nasa)
NASA_PLUS = Rival("nasa+", "nasa+ (ours)", IN_WEIGHTS, False, _nasa_plus)
