"""What is said of an export that is not exact, in the console and on the card."""

from nasalign.alignment.rounding import Rounding


def rounding_text(rounding: Rounding) -> str:
    """Returns how much of the change is left after the rounding to another dtype."""
    return (
        f"Rounded to {rounding.dtype}, the change has {rounding.norm:.1%} of its norm "
        f"(cosine {rounding.cosine:.4f} with the exact one), and {rounding.entries:.1%} of the "
        "changed weights still differ from the base model's, rounded alike."
    ).replace("%", " %")
