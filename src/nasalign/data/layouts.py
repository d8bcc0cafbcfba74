"""The upstream layouts of the paper's data sets: a row becomes questions or a yes/no example.

Each function takes one row of a file or of the hub, and yields its records. It raises ``Drop`` for
a valid row that is of no use, and ``DataError`` for one that lacks a column.
"""

from collections.abc import Callable, Iterator

from nasalign.data.final_answers import after_hashes, after_sentence, in_box
from nasalign.data.reading import Drop, Row
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.user_rows import chosen_option

Layout = Callable[[Row], Iterator[Record]]


def hotpotqa(row: Row) -> Iterator[Record]:
    """HotpotQA: question and answer, without the paragraphs, which the probing set does not need.

    Questions whose answer is yes or no are left out: there is no short answer to verify.
    """
    answer, question = row.text("answer"), row.text("question")
    if answer.casefold() in ("yes", "no"):
        raise Drop("its answer is a literal yes or no")
    name = row.optional_text("id") or row.optional_text("_id") or f"hotpotqa-{row.number}"
    yield Question(question, answer, subject=question, id=name)


def strategyqa(row: Row) -> Iterator[Record]:
    """StrategyQA: a yes/no question as it is, its facts as context (Table 14)."""
    whole = isinstance(row.values.get("facts"), list)
    context = " ".join(row.texts("facts")) if whole else row.optional_text("facts")
    name = row.optional_text("qid") or f"strategyqa-{row.number}"
    yield BinaryExample(row.text("question"), row.truth("answer"), context=context or None, id=name)


def musique(row: Row) -> Iterator[Record]:
    """MuSiQue: its paragraphs with their titles as context (Table 14), the supporting as ``brief``.

    Questions with the same last step share a subject, which is that step.
    """
    if row.values.get("answerable") is False:
        raise Drop("it is not answerable")
    texts, support = [], []
    for part in row.rows("paragraphs"):
        texts.append(f"[Title: {part.text('title')}] {part.text('paragraph_text')}")
        support += texts[-1:] if part.values.get("is_supporting") else []
    name = row.text("id")
    yield Question(
        question=row.text("question"),
        answer=row.text("answer"),
        context=" ".join(texts) or None,
        aliases=row.texts("answer_aliases"),
        subject=name.rpartition("_")[2],
        id=name,
        brief=" ".join(support) or None,
    )


def gsm8k(row: Row) -> Iterator[Record]:
    """GSM8K: the number after ``####``."""
    question = row.text("question")
    answer = after_hashes(row.text("answer"))
    yield Question(question, answer, subject=question, id=f"gsm8k-{row.number}")


def mathematics(row: Row) -> Iterator[Record]:
    """MATH: the content of the last ``\\boxed{}`` of the solution."""
    problem = row.text("problem")
    answer = in_box(row.text("solution"))
    yield Question(problem, answer, subject=problem, id=f"math-{row.number}")


def metamath(kind: str) -> Layout:
    """Return the layout of MetaMathQA for one type of its rows, such as ``GSM_Rephrased``.

    All rephrasings of a question share a subject.
    """

    def layout(row: Row) -> Iterator[Record]:
        if row.text("type") != kind:
            raise Drop(f"its type is not {kind}")
        question, answer = row.text("query"), after_sentence(row.text("response"))
        subject = row.optional_text("original_question") or question
        yield Question(question, answer, subject=subject, id=f"{kind}-{row.number}")

    return layout


def ar_lsat(row: Row) -> Iterator[Record]:
    """AR-LSAT: a passage with its questions (the authors' files), or one question a row (hub)."""
    if "questions" in row.values:
        passage = row.text("passage")
        for part in row.rows("questions"):
            options = part.texts("options")
            answer = chosen_option(part, options, part.text("answer"))
            yield _choice(part, passage, options, answer, part.text("id"))
        return
    options = row.texts("answers")
    label = row.values.get("label")
    if type(label) is not int or not 0 <= label < len(options):
        raise Drop("its label names no option")
    yield _choice(row, row.text("context"), options, options[label], f"ar-lsat-{row.number}")


def _choice(row: Row, passage: str, options: tuple[str, ...], answer: str, name: str) -> Question:
    asked = row.text("question")
    return Question(asked, answer, passage, subject=passage, id=name, options=options)
