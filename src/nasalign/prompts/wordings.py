"""The paper's instructions and pairs of answer words (Tables 10 and 12)."""

from dataclasses import dataclass

INSTRUCTIONS = {  # Table 12; what stands before the positive word, and between the words
    "nasa": "You are given a question and you MUST answer {positive} or {negative}.",
    "A": "You are asked a question that demands a clear {positive} or {negative} answer.",
    "B": "A question is posed to you, and you are obligated to answer either {positive} "
    "or {negative}.",
}
PARAMETRIC_INSTRUCTION = "You MUST answer shortly the given question based on your knowledge."


@dataclass(frozen=True)
class Vocabulary:
    """The pair of answer words; ``positive`` affirms."""

    positive: str
    negative: str


VOCABULARIES = {
    "yes/no": Vocabulary("Yes", "No"),
    "true/false": Vocabulary("True", "False"),
    "correct/wrong": Vocabulary("Correct", "Wrong"),
}
