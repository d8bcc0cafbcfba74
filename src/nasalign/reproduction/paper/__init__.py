"""The paper's published figures, to stand beside our own; Tables 12 to 15 hold text instead.

The datasets have the names of ``data/sources.py``. Where the paper says "(Rephrased)" of a set it
means the set as yes/no questions, except in GSM8K-Rephrased and MATH-Rephrased, which are the
names of the original questions.
"""

from nasalign.reproduction.paper import ablations, negatives, observations
from nasalign.reproduction.paper import main_results as results
from nasalign.reproduction.paper.published_table import PaperTable, Value

__all__ = ["MODELS", "TABLES", "PaperTable", "Value", "paper_table"]

MODELS = {
    "LLaMA": "LLaMA3-8B-Instruct",
    "Mistral": "Mistral-7B-Instruct-v0.3",
    "Gemma": "Gemma-1.1-7b-it",
    "Qwen": "Qwen2-7B-Instruct",
}
"""The models by the short names of the tables (Section 3.1.1)."""

TABLES = {
    table.number: table
    for table in sorted(
        (*observations.TABLES, *results.TABLES, *negatives.TABLES, *ablations.TABLES),
        key=lambda table: table.number,
    )
}
"""Every table of figures by its number."""


def paper_table(number: int) -> PaperTable:
    """Returns a table of the paper by its number.

    Raises:
        ValueError: the paper has no table of figures of that number.
    """
    if number not in TABLES:
        known = ", ".join(map(str, TABLES))
        raise ValueError(f"The paper has no table of figures {number!r}; it has {known}.")
    return TABLES[number]
