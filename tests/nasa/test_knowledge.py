"""What a model knows: its free answers, judged and classified as in Appendix G."""

from collections.abc import Sequence

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nasalign.config import Settings
from nasalign.data.conversation import Conversation
from nasalign.data.records import Question
from nasalign.errors import DataError
from nasalign.inference.generation import Generated
from nasalign.nasa import knowledge as module
from nasalign.nasa.knowledge import Parametric, confident, free_answers, judged, parametric_rows
from nasalign.prompts.builder import PromptBuilder
from nasalign.session import Session

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
QUESTIONS = [Question(f"What is number {number}?", f"thing {number}") for number in range(3)]


class Scripted:
    """A judge that says what is written down, and keeps what it was asked."""

    name = "scripted"

    def __init__(self, answers: Sequence[str | None]) -> None:
        self.answers = list(answers)
        self.asked: list[Conversation] = []

    def complete(
        self, conversations: Sequence[Conversation], progress: object = None
    ) -> list[str | None]:
        self.asked = list(conversations)
        return self.answers


def test_questions_are_asked_by_prompt_two(llama: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = llama
    asked: dict[str, object] = {}

    def generate(
        model: object, tokenizer: object, prompts: list, *rest: object, **options: object
    ) -> Generated:
        asked.update(options, prompts=[prompt.token_ids for prompt in prompts], rest=rest)
        return Generated(["a", "b", "c"], [0.0] * 3, [False] * 3)

    monkeypatch.setattr(module, "generate", generate)
    settings = Settings(answer_tokens=9, batch_size=5, chat=False)
    assert free_answers(Session(model, tokenizer, settings), QUESTIONS).texts == ["a", "b", "c"]
    builder = PromptBuilder(tokenizer, chat=False)
    assert asked["prompts"] == [builder.parametric(question) for question in QUESTIONS]
    assert (asked["rest"], asked["batch_size"]) == ((9,), 5)


def test_an_answer_that_holds_the_label_is_known() -> None:
    answers = Generated(
        ["It is thing 0.", "thing 12", "no idea"], [0.1, 0.2, 0.3], [False, True, False]
    )
    samples = judged(QUESTIONS, answers)
    assert [sample.known for sample in samples] == [True, False, False]
    assert [sample.prediction for sample in samples] == answers.texts
    assert [sample.entropy for sample in samples] == answers.entropies
    assert [sample.question for sample in samples] == QUESTIONS


def test_a_judge_decides_and_is_not_guessed_at() -> None:
    answers = Generated(["one", "two", "three"], [0.0] * 3, [False] * 3)
    judge = Scripted(["Yes.", "no", "Well, it depends"])
    samples = judged(QUESTIONS, answers, judge)
    assert [sample.right for sample in samples] == [True, False, None]
    assert [sample.known for sample in samples] == [True, False, False]
    assert judge.asked[1].user == "Question: What is number 1?\nPrediction: two\nAnswer: thing 1"
    assert judge.asked[1].system.endswith("You must answer only yes or no.")  # Table 15


def test_rows_keep_both_verdicts() -> None:
    answers = Generated(["thing 0", "thing 12", "the thing: 2"], [0.0] * 3, [False] * 3)
    rows = parametric_rows(judged(QUESTIONS, answers, Scripted(["no", "yes", "yes"])))
    assert [row["right"] for row in rows] == [False, True, True]
    assert [row["contains"] for row in rows] == [True, False, True]


@pytest.mark.parametrize(
    ("prediction", "right", "kind"),
    [
        ("Paris", True, "Det-T"),
        ("Not sure, but I say Paris", True, "Det-T"),
        ("Rome", False, "Det-F"),
        ("The Unknown Soldier's Tomb", None, "unclear"),
        ("Unable to determine", False, "Non-Det"),
        ("The passage does not contain information on that.", None, "Non-Det"),
        ("The answer is not provided.", False, "Non-Det"),
        ("I don't know.", False, "Non-Det"),
        ("I do not have enough information", False, "Non-Det"),
        ("It cannot be determined from the context.", False, "Non-Det"),
        ("There is no information on that", None, "Non-Det"),
        ("", False, "Non-Det"),
        ("Something", None, "unclear"),
        ("Nobody knows him better than Ann", False, "Det-F"),
        ("Knoxville", False, "Det-F"),
    ],
)
def test_answers_are_classified(prediction: str, right: bool | None, kind: str) -> None:
    assert Parametric(QUESTIONS[0], prediction, right).knowledge == kind


def test_answers_of_low_entropy_are_confident() -> None:
    samples = [Parametric(QUESTIONS[0], "x", True, entropy) for entropy in (0.4, 0.1, 0.9, 0.2)]
    assert confident(samples) == [False, True, False, True]
    odd = [Parametric(QUESTIONS[0], "x", True, entropy) for entropy in (0.4, 0.1, 0.9)]
    assert confident(odd) == [True, True, False]  # the median itself is low
    rows = parametric_rows(samples)
    assert [row["confident"] for row in rows] == [False, True, False, True]
    assert rows[0] == {
        "id": "",
        "question": "What is number 0?",
        "answer": "thing 0",
        "prediction": "x",
        "right": True,
        "contains": False,
        "knowledge": "Det-T",
        "entropy": 0.4,
        "confident": False,
        "cut": False,
    }


def test_there_must_be_a_question(llama: Llama) -> None:
    with pytest.raises(DataError, match="no short-answer question"):
        free_answers(Session(*llama, Settings()), [])
