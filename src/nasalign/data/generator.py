"""Wrong answers and yes/no questions written by a language model (Table 13)."""

from collections.abc import Sequence

from nasalign.data.conversation import Chat, Conversation
from nasalign.data.judge import same_answer
from nasalign.data.reading import Drop
from nasalign.data.records import Question
from nasalign.data.values import same_value
from nasalign.progress import Progress

WRONG_ANSWER_INSTRUCTION = (
    "Generate the short wrong answer word for the given question. "
    "You MUST refer the given context about the question."
)
CONVERSION_INSTRUCTION = (
    "Convert the given question to the binary Yes-No question based on the context about the given "
    "question and the answer of the given question. The answer of the converted question must be "
    "YES. Do NOT omit the condition in the given question like 'If ...' or 'Suppose ...'. You MUST "
    "include the entire contents of the given question to the converted question."
)
_LONGEST_ANSWER = 200  # characters


def write_wrong_answers(
    questions: Sequence[Question], chat: Chat, progress: Progress | None = None
) -> list[str | Drop]:
    """Return a wrong answer to each question, or why there is none."""
    conversations = [
        Conversation(
            WRONG_ANSWER_INSTRUCTION,
            f"Question: {question.question}\n"
            f"{_context_line(question)}Answer: {question.answer}\nWrong answer:",
        )
        for question in questions
    ]
    answers = chat.complete(conversations, progress)
    return [_checked(question, answer) for question, answer in zip(questions, answers, strict=True)]


def convert_questions(
    questions: Sequence[Question],
    answers: Sequence[str],
    chat: Chat,
    progress: Progress | None = None,
) -> list[str | Drop]:
    """Return each question as a yes/no question that is true if its answer is (AR-LSAT).

    The same prompt serves for the right answer and for a wrong one, as in Table 13.
    """
    conversations = [
        Conversation(
            CONVERSION_INSTRUCTION,
            f"{_context_line(question)}Question: {question.question}\n"
            f"Answer: {answer}\nConverted Question:",
        )
        for question, answer in zip(questions, answers, strict=True)
    ]
    written = (_tidy(answer) for answer in chat.complete(conversations, progress))
    return [text if "?" in text else Drop("the generator wrote no question") for text in written]


def _context_line(question: Question) -> str:
    return f"Context: {question.context}\n" if question.context else ""


def _checked(question: Question, answer: str | None) -> str | Drop:
    text = _tidy(answer)
    if not text:
        return Drop("the generator wrote no answer")
    if len(text) > _LONGEST_ANSWER:
        return Drop("the generator's answer is too long")
    if any(same_answer(text, one) or same_value(text, one) for one in question.right_answers):
        return Drop("the generator's answer is right")
    return text


def _tidy(answer: str | None) -> str:
    """The first line that is not empty, without a repeated heading and quote marks."""
    lines = [line.strip() for line in (answer or "").splitlines() if line.strip()] or [""]
    for heading in ("Wrong answer:", "Converted Question:", "Answer:"):
        if lines[0].casefold().startswith(heading.casefold()):
            lines[0] = lines[0][len(heading) :].strip()
    return (lines[0] or " ".join(lines[1:2])).strip("\"'\u201c\u201d ")
