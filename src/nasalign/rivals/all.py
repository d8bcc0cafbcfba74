"""The rows of a comparison, in their order."""

from nasalign.rivals.baselines import (
    NASA,
    NASA_PLUS,
    QUERY_ONLY,
    RANDOM,
    UNTOUCHED,
    nasa_plus_samples,
)
from nasalign.rivals.calibration import BATCH, CONTEXTUAL, DOMAIN_CONTEXT, THRESHOLD
from nasalign.rivals.instructions import SHOTS, WORDING_A, WORDING_B
from nasalign.rivals.lora import lora
from nasalign.rivals.rival import Rival
from nasalign.rivals.steering import STEERING
from nasalign.rivals.unibias import UNIBIAS

RIVALS: tuple[Rival, ...] = (
    UNTOUCHED,
    WORDING_A,
    WORDING_B,
    SHOTS,
    THRESHOLD,
    CONTEXTUAL,
    DOMAIN_CONTEXT,
    BATCH,
    lora("lora-same", "LoRA on the samples of NASA", lambda material: material.same),
    lora("lora-pairs", "LoRA on these and their wrong twins", lambda material: material.pairs),
    lora("lora-kinds", "LoRA on the samples of nasa+", nasa_plus_samples),
    STEERING,
    UNIBIAS,
    RANDOM,
    QUERY_ONLY,
    NASA,
    NASA_PLUS,
)
