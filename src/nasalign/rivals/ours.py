"""nasa+ as a row of the comparison, and a LoRA on the very samples that it is tuned on."""

from collections.abc import Sequence

from nasalign.alignment import correct_jointly
from nasalign.data.records import BinaryExample
from nasalign.nasa_plus.joint_run import held_back, pairs_by_kind
from nasalign.rivals.baselines import IN_WEIGHTS, taken_off
from nasalign.rivals.rival import Fitted, Material, Rival


def _joint(material: Material) -> Fitted:
    result = correct_jointly(material.session, material.asked, material.probing)
    epochs = [one.epoch for one in result.history if one.kept]  # type: ignore[union-attr]
    chosen = {"heads": len(result.heads), "epoch": epochs[-1]}
    return taken_off(result.adapter, material.model, chosen)


def samples_of_ours(material: Material) -> Sequence[BinaryExample]:
    """Return the examples that nasa+ is tuned on, without those that it holds back."""
    kinds = pairs_by_kind(material.session, material.asked, material.probing)
    return [
        example
        for pairs in kinds.values()
        for pair in pairs
        if not held_back(pair.subject, material.settings.seed)
        for example in (pair.right, pair.wrong)
    ]


NASA_PLUS = Rival("nasa+", "nasa+ (ours)", IN_WEIGHTS, False, _joint)
