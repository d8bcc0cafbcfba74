"""Is a free answer right? By normalised text, or by a language model (Table 15)."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress

from nasalign.data.choices import sides_of
from nasalign.data.conversation import Chat, Conversation
from nasalign.data.records import Question, lettered
from nasalign.progress import Progress

JUDGE_INSTRUCTION = (
    "Can the prediction be considered as the same meaning as the answer to the question? "
    "You must answer only yes or no."
)

_ARTICLES = re.compile(r"\b(a|an|the) (?=\w)")  # not the A of "vitamin A"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_APOSTROPHES = re.compile("['\u2019]")
# The point of 3.5 and the sign of -15 stay; the underscores of _Paris_ go.
_NOT_WORD = re.compile(r"(?:(?!(?<=\d)\.(?=\d)|(?<!\w)-(?=\d))[\W_])+")


_LETTER = re.compile(r"\W*([A-Za-z])(?:[).:,]+\s*((?s:.*))|\W*()$)")  # and the text after it
_FEW_WORDS = 4
_ONE_NUMBER = re.compile(r"[$\u00a3\u20ac]?-?\d[\d,]*(?:\.\d+)?%?")
_FINAL = re.compile(r"(?i:answer(?:\s+is)?\W{1,4}|####\s*|boxed\{)(-?[$]?\d[\d,]*(?:\.\d+)?)")
_CALCULATION = 3  # numbers from which on a text is read as one


@lru_cache(maxsize=65_536)
def normalise(text: str) -> str:
    """Return a text in lower case without accents, articles, punctuation and extra spaces."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign)).casefold()
    plain = _THOUSANDS.sub("", _APOSTROPHES.sub("", plain))
    return " ".join(_ARTICLES.sub(" ", _NOT_WORD.sub(" ", plain)).split())


def includes(prediction: str, question: Question) -> bool:
    """Return whether a prediction holds the answer or an alias as whole words (Section 6.1).

    Answers of one or two characters (chemical symbols) must match in case too: "As" is arsenic,
    "as" is a word. With options, the letter of the right one counts too.
    """
    letters = _letters(prediction, question.options) if question.options else set()
    return any(_holds(prediction, answer) for answer in question.right_answers) or (
        question.answer in {question.options[letter] for letter in letters}
    )


def matches(prediction: str, question: Question) -> bool:
    """Return whether a prediction is right, as far as its text tells.

    It includes the answer, and chooses it: not if it also names the other side of "A or B", denies
    the answer ("not A"), only compares with it ("older than A"), or repeats it from the question.
    Of a calculation, the last number counts. With options, it names no other one.
    """
    if question.options:
        return _chooses(prediction, question)
    return includes(prediction, question) and not _undecided(prediction, question)


def _undecided(prediction: str, question: Question) -> bool:
    """Whether a prediction holds the answer without giving it as the answer."""
    if _ONE_NUMBER.fullmatch(question.answer):
        numbers = [one[0] for one in _ONE_NUMBER.finditer(prediction)]
        if len(numbers) >= _CALCULATION or (numbers and "=" in prediction):
            final = [one[1] for one in _FINAL.finditer(prediction)] or numbers
            return not any(_holds(final[-1], answer) for answer in question.right_answers)
    sides = sides_of(question.question) or ()
    pairs = [(side, right) for side in sides for right in question.right_answers]
    text = f" {normalise(prediction)} "
    named = [_holds(prediction, one) and f" not {normalise(one)} " not in text for one in sides]
    if named and all(named) and any(same_answer(*pair) for pair in pairs):
        return True
    held = [answer for answer in question.right_answers if _holds(prediction, answer)]
    return not any(_given(prediction, answer, question.question) for answer in held)


def _given(prediction: str, answer: str, asked: str) -> bool:
    """Whether an answer stands somewhere in a prediction as more than a comparison or a repeat."""
    text, question = f" {normalise(prediction)} ", f" {normalise(asked)} "
    wanted = f" {normalise(answer)} "
    if len(answer) <= 2 or wanted not in text:  # a sign, which is not normalised
        return True
    offered = wanted in question
    for place in re.finditer(f"(?={re.escape(wanted)})", text):
        before = text[: place.start()].split()
        after = text[place.start() + len(wanted) :].split()
        repeats = offered and any(
            f" {' '.join([*before[len(before) - left :], wanted.strip(), *after[: 2 - left]])} "
            in question
            for left in range(max(0, 2 - len(after)), min(2, len(before)) + 1)
        )
        compared = offered and before[-1:] == ["than"] and before[-2:-1] != ["other"]
        if not (repeats or compared or before[-1:] == ["not"]):
            return True
    return False


def _chooses(prediction: str, question: Question) -> bool:
    """Whether a prediction names the right option, and no other.

    What it names by text decides, whatever letter stands beside it; only a prediction without the
    text of an option is read by its letter.
    """
    named = _options_named(prediction, question.options)
    if not named:
        named = {question.options[letter] for letter in _letters(prediction, question.options)}
    return named == {question.answer}


def _options_named(prediction: str, options: Sequence[str]) -> set[str]:
    """The options whose text a prediction holds, without those inside another and denied ones."""
    text, found = f" {normalise(prediction)} ", []
    for option in options:
        wanted = normalise(option)
        places = re.finditer(rf"(?<! not){re.escape(f' {wanted} ')}", text) if wanted else ()
        if len(option) <= 2 and not _holds(prediction, option):  # case tells it from a word
            continue
        found += [(one.start(), one.end(), option) for one in places]
    return {
        option
        for start, end, option in found
        if not any(
            begin <= start and end <= stop and stop - begin > end - start
            for begin, stop, _ in found
        )
    }


def _letters(prediction: str, options: Sequence[str]) -> set[int]:
    """The places of the options named by a letter: "B", "(B) ...", "Answer: B"."""
    whole = _LETTER.match(prediction)
    if whole and not _fits(whole[2] or "", options, ord(whole[1].upper()) - ord("A")):
        return set()
    inside = re.findall(r"\(([A-Za-z])\)", prediction)
    told = re.findall(
        r"\b(?:[Aa]nswer|[Oo]ption|[Cc]hoice)(?:\s+is)?[\s:]*([A-Z])(?=[).:,]|\W*$|\s+is\b)",
        prediction,
    )
    found = [letter.upper() for letter in (*inside, *told, *(whole[1] if whole else ""))]
    places = {ord(letter) - ord("A") for letter in found}
    return {place for place in places if place < len(options)}


def _fits(text: str, options: Sequence[str], place: int) -> bool:
    """Whether what follows a letter is its option's text, or cut, a reason, or next to nothing."""
    said = normalise(text.partition("\n")[0])
    reason = said.split()[:1] in (["because"], ["since"], ["as"], ["is"], ["so"])
    short = len(said.split()) < _FEW_WORDS
    return short or reason or (place < len(options) and said in normalise(options[place]))


def judge(
    questions: Sequence[Question],
    predictions: Sequence[str],
    chat: Chat | None = None,
    progress: Progress | None = None,
    *,
    double_check: bool = False,
) -> list[bool | None]:
    """Return whether each of N predictions is right.

    With ``chat``, a language model is asked by the prompt of Table 15 (Appendix E), and a verdict
    is None where it says neither yes nor no; without, ``matches`` decides. With ``double_check``,
    it is asked about predictions that include the answer, and the others are wrong (Section 6.1).
    """
    pairs = list(zip(questions, predictions, strict=True))
    if chat is None:
        return [matches(said, asked) for asked, said in pairs]
    asked_about = [not double_check or includes(said, asked) for asked, said in pairs]
    if progress:
        progress(asked_about.count(False))
    checked = [_conversation(*pair) for pair in compress(pairs, asked_about)]
    verdicts = map(yes_or_no, chat.complete(checked, progress) if checked else [])
    return [next(verdicts) if one else False for one in asked_about]


def _conversation(asked: Question, said: str) -> Conversation:
    """The question to a judge; a question with options shows them, and its answer has a letter."""
    options = lettered(asked.options)
    answer = options[asked.options.index(asked.answer)] if options else asked.answer
    question = "\n".join([asked.question, *options])
    return Conversation(
        JUDGE_INSTRUCTION, f"Question: {question}\nPrediction: {said}\nAnswer: {answer}"
    )


def yes_or_no(answer: str | None) -> bool | None:
    """Read a judge's verdict: the answer must begin with yes or no."""
    beginning = re.match(r"\W*(yes|no)\b", answer or "", re.IGNORECASE)
    return None if beginning is None else beginning[1].casefold() == "yes"


def same_answer(left: str, right: str) -> bool:
    """Return whether one of two answers holds the other: "dollar" and "US dollar"."""
    return _holds(left, right) or _holds(right, left)


def _holds(text: str, answer: str) -> bool:
    if len(answer) <= 2 and not answer.isdigit():
        return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None
    wanted = normalise(answer) or answer.casefold().strip()
    return f" {wanted} " in f" {normalise(text) or text.casefold().strip()} "
