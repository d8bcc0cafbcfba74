"""The rows of a comparison, in their order."""

from nasalign.rivals.activated_lora import ALORA
from nasalign.rivals.baselines import NASA, NASA_PLUS, QUERY_ONLY, RANDOM, UNTOUCHED
from nasalign.rivals.calibration import BATCH, CONTEXTUAL, DOMAIN_CONTEXT, PLATT, THRESHOLD
from nasalign.rivals.head_edits import JOLA, LOFIT
from nasalign.rivals.head_lora import LORA_HEADS
from nasalign.rivals.instructions import SHOTS, WORDING_A, WORDING_B
from nasalign.rivals.linear_probe import PROBE
from nasalign.rivals.lora import LORA_ALL, LORA_ATTENTION, LORA_QK
from nasalign.rivals.rival import Rival
from nasalign.rivals.steering import STEERING
from nasalign.rivals.tail_lora import TAIL
from nasalign.rivals.unibias import UNIBIAS

RIVALS: tuple[Rival, ...] = (
    UNTOUCHED,
    WORDING_A,
    WORDING_B,
    SHOTS,
    THRESHOLD,
    PLATT,
    CONTEXTUAL,
    DOMAIN_CONTEXT,
    BATCH,
    PROBE,
    LORA_ALL,
    LORA_QK,
    LORA_ATTENTION,
    LORA_HEADS,
    ALORA,
    TAIL,
    LOFIT,
    JOLA,
    STEERING,
    UNIBIAS,
    RANDOM,
    QUERY_ONLY,
    NASA,
    NASA_PLUS,
)
