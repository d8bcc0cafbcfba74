"""Tables 19 and 20: NASA beside its ablations."""

from nasalign.reproduction.paper.published_table import PaperTable

QUERY_ONLY = "query projection only"
RANDOM_HEADS = "random attention heads"
_VALUES = ("accuracy", "precision", "recall", "f1", "nas", "ece")
_UNIT = (
    "accuracy, precision, recall and F1 of positive verdicts as fractions; mean model NAS a "
    "sample; expected calibration error as a fraction"
)

_UPDATED_PARAMETERS = PaperTable(
    19,
    "Ablation results of updated parameters",
    "K.1",
    keys=("dataset", "model", "method"),
    values=_VALUES,
    unit=_UNIT,
    # Qwen on AR-LSAT, query projection only, stands far above every other run of that model there;
    # Appendix K.1 calls it exceptional.
    rows=(
        ("strategyqa", "LLaMA", "NASA", 0.877, 0.864, 0.875, 0.869, 55.0, 0.102),
        ("strategyqa", "LLaMA", QUERY_ONLY, 0.877, 0.895, 0.836, 0.864, 96.2, 0.128),
        ("strategyqa", "Mistral", "NASA", 0.830, 0.802, 0.861, 0.830, 34.3, 0.116),
        ("strategyqa", "Mistral", QUERY_ONLY, 0.849, 0.846, 0.837, 0.841, 71.9, 0.114),
        ("strategyqa", "Gemma", "NASA", 0.771, 0.907, 0.690, 0.784, 71.8, 0.162),
        ("strategyqa", "Gemma", QUERY_ONLY, 0.774, 0.907, 0.692, 0.785, 79.2, 0.161),
        ("strategyqa", "Qwen", "NASA", 0.844, 0.907, 0.742, 0.816, 107.2, 0.106),
        ("strategyqa", "Qwen", QUERY_ONLY, 0.836, 0.915, 0.716, 0.804, 194.9, 0.115),
        ("musique", "LLaMA", "NASA", 0.757, 0.815, 0.683, 0.743, 64.0, 0.039),
        ("musique", "LLaMA", QUERY_ONLY, 0.741, 0.844, 0.609, 0.707, 118.6, 0.055),
        ("musique", "Mistral", "NASA", 0.707, 0.802, 0.594, 0.682, 110.7, 0.212),
        ("musique", "Mistral", QUERY_ONLY, 0.704, 0.821, 0.558, 0.664, 185.9, 0.217),
        ("musique", "Gemma", "NASA", 0.503, 0.834, 0.555, 0.667, 96.2, 0.276),
        ("musique", "Gemma", QUERY_ONLY, 0.510, 0.836, 0.552, 0.665, 107.1, 0.274),
        ("musique", "Qwen", "NASA", 0.639, 0.858, 0.552, 0.672, 282.9, 0.200),
        ("musique", "Qwen", QUERY_ONLY, 0.622, 0.873, 0.500, 0.636, 405.7, 0.215),
        ("gsm8k-rephrased", "LLaMA", "NASA", 0.545, 0.531, 0.838, 0.650, 74.7, 0.170),
        ("gsm8k-rephrased", "LLaMA", QUERY_ONLY, 0.558, 0.551, 0.688, 0.612, 123.6, 0.105),
        ("gsm8k-rephrased", "Mistral", "NASA", 0.512, 0.509, 0.782, 0.617, 77.0, 0.269),
        ("gsm8k-rephrased", "Mistral", QUERY_ONLY, 0.511, 0.515, 0.463, 0.487, 127.4, 0.294),
        ("gsm8k-rephrased", "Gemma", "NASA", 0.524, 0.541, 0.887, 0.672, 66.2, 0.346),
        ("gsm8k-rephrased", "Gemma", QUERY_ONLY, 0.517, 0.542, 0.888, 0.673, 74.7, 0.349),
        ("gsm8k-rephrased", "Qwen", "NASA", 0.576, 0.614, 0.738, 0.670, 82.9, 0.115),
        ("gsm8k-rephrased", "Qwen", QUERY_ONLY, 0.560, 0.634, 0.606, 0.620, 141.6, 0.085),
        ("math-rephrased", "LLaMA", "NASA", 0.549, 0.534, 0.874, 0.663, 60.8, 0.175),
        ("math-rephrased", "LLaMA", QUERY_ONLY, 0.572, 0.562, 0.740, 0.639, 103.6, 0.118),
        ("math-rephrased", "Mistral", "NASA", 0.526, 0.522, 0.685, 0.592, 109.6, 0.260),
        ("math-rephrased", "Mistral", QUERY_ONLY, 0.533, 0.549, 0.384, 0.452, 152.8, 0.299),
        ("math-rephrased", "Gemma", "NASA", 0.543, 0.553, 0.871, 0.677, 64.0, 0.340),
        ("math-rephrased", "Gemma", QUERY_ONLY, 0.539, 0.555, 0.867, 0.677, 73.0, 0.338),
        ("math-rephrased", "Qwen", "NASA", 0.581, 0.617, 0.715, 0.662, 103.1, 0.162),
        ("math-rephrased", "Qwen", QUERY_ONLY, 0.549, 0.639, 0.611, 0.624, 187.5, 0.168),
        ("ar-lsat", "LLaMA", "NASA", 0.518, 0.537, 0.444, 0.486, 63.6, 0.227),
        ("ar-lsat", "LLaMA", QUERY_ONLY, 0.510, 0.536, 0.337, 0.414, 109.2, 0.245),
        ("ar-lsat", "Mistral", "NASA", 0.530, 0.553, 0.447, 0.494, 80.02, 0.355),
        ("ar-lsat", "Mistral", QUERY_ONLY, 0.526, 0.556, 0.382, 0.453, 121.3, 0.382),
        ("ar-lsat", "Gemma", "NASA", 0.510, 0.523, 0.534, 0.528, 68.0, 0.372),
        ("ar-lsat", "Gemma", QUERY_ONLY, 0.514, 0.526, 0.551, 0.539, 75.6, 0.383),
        ("ar-lsat", "Qwen", "NASA", 0.496, 0.528, 0.182, 0.270, 207.3, 0.359),
        ("ar-lsat", "Qwen", QUERY_ONLY, 0.559, 0.643, 0.574, 0.607, 204.4, 0.384),
    ),
)

_HEAD_SELECTION = PaperTable(
    20,
    "Ablation results of attention head selection",
    "K.2",
    keys=("model", "dataset", "method"),
    values=_VALUES,
    unit=_UNIT,
    # Mistral with NASA: Tables 4 and 19 print an accuracy of 0.526 on MATH and a NAS of 80.02 on
    # AR-LSAT.
    rows=(
        ("LLaMA", "strategyqa", "NASA", 0.877, 0.864, 0.875, 0.869, 55.0, 0.102),
        ("LLaMA", "strategyqa", RANDOM_HEADS, 0.870, 0.924, 0.789, 0.851, -507.6, 0.176),
        ("LLaMA", "musique", "NASA", 0.757, 0.815, 0.683, 0.743, 64.0, 0.039),
        ("LLaMA", "musique", RANDOM_HEADS, 0.722, 0.862, 0.547, 0.669, -956.7, 0.076),
        ("LLaMA", "gsm8k-rephrased", "NASA", 0.545, 0.531, 0.838, 0.650, 74.7, 0.170),
        ("LLaMA", "gsm8k-rephrased", RANDOM_HEADS, 0.554, 0.570, 0.482, 0.522, -433.8, 0.109),
        ("LLaMA", "math-rephrased", "NASA", 0.549, 0.534, 0.874, 0.663, 60.8, 0.175),
        ("LLaMA", "math-rephrased", RANDOM_HEADS, 0.562, 0.573, 0.561, 0.567, -390.1, 0.095),
        ("LLaMA", "ar-lsat", "NASA", 0.518, 0.537, 0.444, 0.486, 63.6, 0.227),
        ("LLaMA", "ar-lsat", RANDOM_HEADS, 0.518, 0.570, 0.249, 0.346, -817.5, 0.259),
        ("Mistral", "strategyqa", "NASA", 0.830, 0.802, 0.861, 0.830, 34.3, 0.116),
        ("Mistral", "strategyqa", RANDOM_HEADS, 0.849, 0.888, 0.784, 0.833, 750.8, 0.112),
        ("Mistral", "musique", "NASA", 0.707, 0.802, 0.594, 0.682, 110.7, 0.212),
        ("Mistral", "musique", RANDOM_HEADS, 0.679, 0.850, 0.483, 0.616, 1405.1, 0.244),
        ("Mistral", "gsm8k-rephrased", "NASA", 0.512, 0.509, 0.782, 0.617, 77.0, 0.269),
        ("Mistral", "gsm8k-rephrased", RANDOM_HEADS, 0.518, 0.539, 0.287, 0.374, 1055.0, 0.339),
        ("Mistral", "math-rephrased", "NASA", 0.525, 0.522, 0.685, 0.592, 109.6, 0.260),
        ("Mistral", "math-rephrased", RANDOM_HEADS, 0.528, 0.563, 0.266, 0.361, 1042.2, 0.354),
        ("Mistral", "ar-lsat", "NASA", 0.530, 0.553, 0.447, 0.494, 80.0, 0.355),
        ("Mistral", "ar-lsat", RANDOM_HEADS, 0.514, 0.551, 0.290, 0.380, 1015.0, 0.396),
        ("Gemma", "strategyqa", "NASA", 0.771, 0.907, 0.690, 0.784, 71.8, 0.162),
        ("Gemma", "strategyqa", RANDOM_HEADS, 0.780, 0.922, 0.678, 0.782, 104.7, 0.165),
        ("Gemma", "musique", "NASA", 0.503, 0.834, 0.555, 0.667, 96.2, 0.276),
        ("Gemma", "musique", RANDOM_HEADS, 0.532, 0.829, 0.534, 0.650, 123.8, 0.279),
        ("Gemma", "gsm8k-rephrased", "NASA", 0.524, 0.541, 0.887, 0.672, 66.2, 0.346),
        ("Gemma", "gsm8k-rephrased", RANDOM_HEADS, 0.533, 0.540, 0.855, 0.662, 103.5, 0.357),
        ("Gemma", "math-rephrased", "NASA", 0.543, 0.553, 0.871, 0.677, 64.0, 0.340),
        ("Gemma", "math-rephrased", RANDOM_HEADS, 0.547, 0.554, 0.835, 0.666, 105.4, 0.331),
        ("Gemma", "ar-lsat", "NASA", 0.510, 0.523, 0.534, 0.528, 68.0, 0.372),
        ("Gemma", "ar-lsat", RANDOM_HEADS, 0.513, 0.529, 0.489, 0.508, 98.6, 0.374),
        ("Qwen", "strategyqa", "NASA", 0.844, 0.907, 0.742, 0.816, 107.2, 0.106),
        ("Qwen", "strategyqa", RANDOM_HEADS, 0.832, 0.917, 0.705, 0.797, 202.0, 0.116),
        ("Qwen", "musique", "NASA", 0.639, 0.858, 0.552, 0.672, 282.9, 0.200),
        ("Qwen", "musique", RANDOM_HEADS, 0.627, 0.880, 0.505, 0.642, 392.8, 0.221),
        ("Qwen", "gsm8k-rephrased", "NASA", 0.576, 0.614, 0.738, 0.670, 82.9, 0.115),
        ("Qwen", "gsm8k-rephrased", RANDOM_HEADS, 0.540, 0.637, 0.562, 0.597, 195.7, 0.091),
        ("Qwen", "math-rephrased", "NASA", 0.581, 0.617, 0.715, 0.662, 103.1, 0.162),
        ("Qwen", "math-rephrased", RANDOM_HEADS, 0.563, 0.652, 0.556, 0.600, 201.3, 0.168),
        ("Qwen", "ar-lsat", "NASA", 0.496, 0.528, 0.182, 0.270, 207.3, 0.359),
        ("Qwen", "ar-lsat", RANDOM_HEADS, 0.493, 0.530, 0.117, 0.192, 299.4, 0.392),
    ),
)

TABLES = (_UPDATED_PARAMETERS, _HEAD_SELECTION)
