"""Rivals that change only the prompt: another instruction (Table 12), or examples."""

from functools import partial

from nasalign.rivals.rival import Fitted, Material, Rival


def _wording(wording: str, material: Material) -> Fitted:
    """Take an instruction; the paper's main one where the settings have this one already."""
    other = "nasa" if material.settings.instruction == wording else wording
    return Fitted(changes={"instruction": other}, chosen={"instruction": other})


def _shots(material: Material) -> Fitted:
    """Show the material's examples; counts the tokens by which they lengthen a prompt."""
    shots, example = material.shots, material.development[0]
    plain, shown = (material.builder(given).binary(example) for given in ((), shots))
    more = len(shown.token_ids) - len(plain.token_ids)
    return Fitted(shots=shots, chosen={"examples": len(shots), "more tokens": more})


WORDING_A = Rival(
    "wording-a", "instruction A (Table 12)", "the other instruction", False, partial(_wording, "A")
)
WORDING_B = Rival(
    "wording-b", "instruction B (Table 12)", "the other instruction", False, partial(_wording, "B")
)
SHOTS = Rival(
    "shots",
    "4 examples shown (Brown et al., 2020)",
    "4 examples in each prompt: about 90 more tokens",
    False,
    _shots,
)
