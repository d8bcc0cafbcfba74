"""Tables 16 to 18: negative verdicts by what the model knows and how sure it is (Appendix G).

``response`` is the free answer: right (Det-T), wrong (Det-F) or none (Non-Det). ``confidence`` is
High where the entropy of its first token is at most the median over all answers of the untouched
model.
"""

from itertools import product

from nasalign.reproduction.paper.published_table import PaperTable, Value

_KEYS = ("dataset", "model", "response", "confidence")
_KINDS = tuple(product(("Det-T", "Det-F", "Non-Det"), ("High", "Low")))


def _spread(*printed: tuple[Value, ...]) -> tuple[tuple[Value, ...], ...]:
    """Turns lines as printed (data set, model, a figure a kind) into one row a figure."""
    return tuple(
        (*line[:2], *kind, figure)
        for line in printed
        for kind, figure in zip(_KINDS, line[2:], strict=True)
    )


_FALSE_NEGATIVES = PaperTable(
    16,
    "Composition of false negative samples of original models in the rephrased datasets",
    "G",
    keys=_KEYS,
    values=("share",),
    unit="fraction of the untouched model's false negatives on the data set; the kinds add up to 1",
    rows=_spread(
        ("musique", "LLaMA", 0.21, 0.182, 0.141, 0.261, 0.04, 0.166),
        ("musique", "Mistral", 0.159, 0.103, 0.218, 0.27, 0.095, 0.155),
        ("musique", "Gemma", 0.009, 0.022, 0.546, 0.42, 0.0, 0.003),
        ("musique", "Qwen", 0.25, 0.174, 0.139, 0.327, 0.007, 0.104),
        ("gsm8k-rephrased", "LLaMA", 0.209, 0.092, 0.286, 0.414, 0.0, 0.0),
        ("gsm8k-rephrased", "Mistral", 0.076, 0.03, 0.407, 0.486, 0.001, 0.0),
        ("gsm8k-rephrased", "Gemma", 0.097, 0.065, 0.378, 0.459, 0.0, 0.0),
        ("gsm8k-rephrased", "Qwen", 0.194, 0.121, 0.278, 0.407, 0.0, 0.0),
        ("ar-lsat", "LLaMA", 0.057, 0.06, 0.303, 0.312, 0.158, 0.11),
        ("ar-lsat", "Mistral", 0.058, 0.078, 0.385, 0.437, 0.002, 0.04),
        ("ar-lsat", "Gemma", 0.011, 0.025, 0.49, 0.474, 0.0, 0.0),
        ("ar-lsat", "Qwen", 0.068, 0.108, 0.306, 0.413, 0.092, 0.013),
    ),
)

_FALSE_TO_TRUE = PaperTable(
    17,
    (
        "Response shift ratio by NASA on false negative samples (FN → TP ratio) in the "
        "rephrased datasets"
    ),
    "H",
    keys=_KEYS,
    values=("shift_ratio",),
    unit="fraction of the false negatives of a kind that NASA turns into true positives",
    # Gemma on GSM8K: N/A in the Low columns of Det-T and Det-F, though by Table 16 half of its
    # false negatives are there.
    rows=_spread(
        ("musique", "LLaMA", 0.364, 0.39, 0.268, 0.326, 0.136, 0.197),
        ("musique", "Mistral", 0.432, 0.449, 0.265, 0.28, 0.203, 0.163),
        ("musique", "Gemma", 0.185, 0.0, 0.029, 0.0, 0.0, 0.0),
        ("musique", "Qwen", 0.122, 0.15, 0.074, 0.093, 0.0, 0.032),
        ("gsm8k-rephrased", "LLaMA", 0.662, 0.694, 0.629, 0.715, None, None),
        ("gsm8k-rephrased", "Mistral", 0.817, 0.667, 0.746, 0.638, 1.0, None),
        ("gsm8k-rephrased", "Gemma", 0.14, None, 0.254, None, None, None),
        ("gsm8k-rephrased", "Qwen", 0.315, 0.586, 0.389, 0.386, None, None),
        ("ar-lsat", "LLaMA", 0.5, 0.432, 0.298, 0.33, 0.228, 0.281),
        ("ar-lsat", "Mistral", 0.585, 0.189, 0.289, 0.195, 0.0, 0.0),
        ("ar-lsat", "Gemma", 0.143, 0.158, 0.146, 0.131, None, None),
        ("ar-lsat", "Qwen", 0.22, 0.098, 0.079, 0.095, 0.062, 0.111),
    ),
)

_TRUE_TO_FALSE = PaperTable(
    18,
    (
        "Response shift ratio by NASA on true negative samples (TN → FP ratio) in the "
        "rephrased datasets"
    ),
    "H",
    keys=_KEYS,
    values=("shift_ratio",),
    unit="fraction of the true negatives of a kind that NASA turns into false positives",
    rows=_spread(
        ("musique", "LLaMA", 0.057, 0.06, 0.144, 0.112, 0.0, 0.06),
        ("musique", "Mistral", 0.073, 0.075, 0.097, 0.08, 0.119, 0.032),
        ("musique", "Gemma", 0.0, None, 0.007, None, 0.0, None),
        ("musique", "Qwen", 0.009, 0.018, 0.015, 0.026, 0.0, None),
        ("gsm8k-rephrased", "LLaMA", 0.587, 0.632, 0.516, 0.606, None, None),
        ("gsm8k-rephrased", "Mistral", 0.784, 0.65, 0.736, 0.652, None, None),
        ("gsm8k-rephrased", "Gemma", 0.271, None, 0.188, None, None, None),
        ("gsm8k-rephrased", "Qwen", 0.213, 0.208, 0.234, 0.303, None, None),
        ("ar-lsat", "LLaMA", 0.229, 0.349, 0.306, 0.247, 0.176, 0.21),
        ("ar-lsat", "Mistral", 0.208, 0.204, 0.248, 0.162, 0.0, 0.174),
        ("ar-lsat", "Gemma", 0.133, 0.083, 0.152, 0.134, None, None),
        ("ar-lsat", "Qwen", 0.109, 0.041, 0.13, 0.095, 0.0, 0.0),
    ),
)

TABLES = (_FALSE_NEGATIVES, _FALSE_TO_TRUE, _TRUE_TO_FALSE)
