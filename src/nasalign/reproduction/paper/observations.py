"""Tables 1, 2, 8 and 9: the data, and what NAS says about the bias of the untouched models."""

from nasalign.reproduction.paper.published_table import PaperTable

_CORRELATION = PaperTable(
    1,
    "Correlations of NAS and the negative confidence (-1 to 1)",
    "3.2.2",
    keys=("model",),
    values=("pearson", "spearman"),
    unit=(
        "coefficients, -1 to 1, between model NAS and negative confidence over 1,500 samples: 500 "
        "each of strategyqa, gsm8k-rephrased and ar-lsat"
    ),
    rows=(
        ("LLaMA", 0.5274, 0.5201),
        ("Mistral", 0.3625, 0.3563),
        ("Gemma", 0.6322, 0.6725),
        ("Qwen", 0.4806, 0.5166),
    ),
)

_OVERLAP = PaperTable(
    2,
    "Overlapping proportion of top-100 negative heads for various datasets (0 to 1)",
    "3.2.2",
    keys=("model",),
    values=("overlap",),
    unit=(
        "fraction of the negative heads (k=200, N=100) that the data sets share: 500 samples each "
        "of strategyqa, gsm8k-rephrased and ar-lsat"
    ),
    rows=(
        ("LLaMA", 0.74),
        ("Mistral", 0.76),
        ("Gemma", 0.80),
        ("Qwen", 0.74),
    ),
)

_DATA = PaperTable(
    8,
    "Data statistics of datasets utilized in our work",
    "A",
    keys=("dataset",),
    values=("positives", "negatives", "total"),
    unit="yes/no questions",
    rows=(
        ("strategyqa", 1071, 1219, 2290),
        ("musique", 1208, 1208, 2416),
        ("gsm8k-rephrased", 1001, 999, 2000),
        ("math-rephrased", 1000, 1000, 2000),
        ("ar-lsat", 820, 777, 1597),
    ),
)

_REGRESSION = PaperTable(
    9,
    # Misprinted for "a correction", as the second column says.
    "Results of multiple regression alongside a correlation for multiple comparisons",
    "B",
    keys=("model",),
    values=("coefficient", "p_value", "r_squared"),
    unit=(
        "of model NAS on negative confidence, with positive confidence as the other variable: its "
        "coefficient, the p-value corrected for multiple comparisons, and the effect size"
    ),
    rows=(
        ("LLaMA", -3.04, 7.18e-01, 0.271),
        ("Mistral", 19.57, 1.22e-03, 0.060),
        ("Gemma", 29.61, 1.23e-21, 0.377),
        ("Qwen", 126.03, 4.65e-69, 0.265),
    ),
)

TABLES = (_CORRELATION, _OVERLAP, _DATA, _REGRESSION)
