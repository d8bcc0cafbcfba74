"""nasa+ as a row of the comparison, and a LoRA on the very samples that it is tuned on."""

from collections.abc import Sequence

from nasalign.alignment import align_plus
from nasalign.data.records import BinaryExample
from nasalign.models.loading import fingerprint
from nasalign.nasa_plus.joint_stages import held_back, kinds_of
from nasalign.rivals.baselines import IN_WEIGHTS, taken_off
from nasalign.rivals.rival import Fitted, Material, Rival


def _plus(material: Material) -> Fitted:
    model = material.model
    result = align_plus(
        model,
        material.tokenizer,
        material.asked,
        material.probing,
        material.settings,
        material.run,
        fingerprint(model),
    )
    epochs = [one.epoch for one in result.history if one.kept]  # type: ignore[union-attr]
    return taken_off(result.adapter, model, {"heads": len(result.heads), "epoch": epochs[-1]})


def samples_of_ours(material: Material) -> Sequence[BinaryExample]:
    """Returns what nasa+ learns from; what it holds back is left out."""
    kinds = kinds_of(material.asked, material.probing, material.settings)
    return [
        example
        for pairs in kinds.values()
        for pair in pairs
        if not held_back(pair.subject, material.settings.seed)
        for example in (pair.right, pair.wrong)
    ]


NASA_PLUS = Rival("nasa+", "nasa+ (ours)", IN_WEIGHTS, False, _plus)
