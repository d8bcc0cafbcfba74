"""What an export lacks of the exact change, in words: for the card and the console."""

from nasalign.adapters.adapter_file import Reduction
from nasalign.adapters.rounding import Rounding


def rounding_text(rounding: Rounding) -> str:
    """Returns how much of the change is left after rounding to another dtype."""
    return (
        f"Rounded to {rounding.dtype}, the change has {rounding.norm:.1%} of its norm "
        f"(cosine {rounding.cosine:.4f} with the exact one), and {rounding.entries:.1%} of the "
        "changed weights still differ from the base model's, rounded alike."
    ).replace("%", " %")


def reduction_text(reduction: Reduction) -> str:
    """Returns how far an adapter of low rank is from the exact one."""
    return (
        f"Reduced to rank {reduction.rank}, the change lacks {reduction.error:.1%} of its norm "
        "(relative Frobenius error over all modules)."
    ).replace("%", " %")


def reduction_rows(reduction: Reduction) -> list[tuple[str, str, str]]:
    """Returns each module, the number of its rows that change, and its relative error."""
    return [
        (module, str(len(reduction.rows[module])), f"{error:.4f}")
        for module, error in reduction.modules.items()
    ]
