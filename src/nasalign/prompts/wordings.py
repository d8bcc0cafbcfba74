"""The paper's instructions (Table 12), and the words that an answer is made of (Table 10)."""

from dataclasses import dataclass

from nasalign.errors import PromptError, shortened

INSTRUCTIONS = {  # Table 12; what stands before the positive word, and between the words
    "nasa": "You are given a question and you MUST answer {positive} or {negative}.",
    "A": "You are asked a question that demands a clear {positive} or {negative} answer.",
    "B": "A question is posed to you, and you are obligated to answer either {positive} "
    "or {negative}.",
}
PARAMETRIC_INSTRUCTION = "You MUST answer shortly the given question based on your knowledge."
UNSURE = "I don't know"
"""The third answer of the scenario ``unsure``, unless the words have one of their own."""


@dataclass(frozen=True)
class Vocabulary:
    """The answer words, each in one or more surface forms; prompts are written with the first.

    Attributes:
        positives: forms of the word that affirms, such as ``("Yes", "True")``.
        negatives: forms of the word that denies.
        unsures: forms of a third answer, which counts as invalid; empty where there is none.
    """

    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    unsures: tuple[str, ...] = ()

    @property
    def positive(self) -> str:
        """The word that affirms."""
        return self.positives[0]

    @property
    def negative(self) -> str:
        """The word that denies."""
        return self.negatives[0]

    @property
    def forms(self) -> list[tuple[str, ...]]:
        """The forms of each word: positive, negative and, if there is one, the third."""
        return [one for one in (self.positives, self.negatives, self.unsures) if one]

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """Read words such as ``Ja/Nein``, ``Yes|True/No|False`` or ``Yes/No/Unsure``.

        The paper's pairs may be written in lower case (``VOCABULARIES``).

        Raises:
            PromptError: there are not two or three words, or two of them have a form in common.
        """
        if text in VOCABULARIES:
            return VOCABULARIES[text]
        words = [tuple(form.strip() for form in word.split("|")) for word in text.split("/", 2)]
        forms = [form.casefold() for word in words for form in word]
        if len(words) < 2 or not all(forms) or any(sign in text for sign in "{}\n"):
            raise PromptError(
                f"The answer words are {shortened(text)}; write the word that affirms, a slash and "
                "the word that denies, such as Ja/Nein, or with several forms Yes|True/No|False."
            )
        if len(set(forms)) < len(forms):
            raise PromptError(f"The answer words {shortened(text)} have the same form twice.")
        return cls(*words)


VOCABULARIES = {  # Table 10
    "yes/no": Vocabulary(("Yes",), ("No",)),
    "true/false": Vocabulary(("True",), ("False",)),
    "correct/wrong": Vocabulary(("Correct",), ("Wrong",)),
}
