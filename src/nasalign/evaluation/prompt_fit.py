"""Whether the prompts of a record fit the model, as they are going to be asked."""

from collections.abc import Sequence

from nasalign.config import Settings
from nasalign.data.binary import Binary, positive_example
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.errors import PromptError
from nasalign.inference.fitting import unfit_records
from nasalign.inference.scoring import VERDICT_TOKENS
from nasalign.models.loading import context_length
from nasalign.prompts.scenarios import in_scenario
from nasalign.session import Session


def fitting(
    session: Session,
    name: str,
    records: Sequence[Record],
    binary: Binary,
    shots: Sequence[BinaryExample] = (),
    *,
    freely: bool = False,
) -> Binary:
    """Return the examples of the records whose prompts fit the model; count the other records.

    Args:
        session: its settings say how the examples are asked.
        name: of the data.
        records: those of which the examples are.
        binary: the examples.
        shots: few-shot examples.
        freely: whether the records are asked by Prompt II too.

    Raises:
        PromptError: no prompt fits, or one does not and the run is strict.
    """
    builder = session.builder(shots, session.settings.scenario)
    by_record: dict[int, list[BinaryExample]] = {}
    for example, origin in zip(binary.examples, binary.origins, strict=True):
        by_record.setdefault(origin, []).append(example)
    asked = list(by_record)

    def tokens_of(place: int) -> int:
        prompts = map(builder.binary, _as_asked(session, by_record[asked[place]], name))
        tokens = max(len(prompt.token_ids) for prompt in prompts) + _reply_tokens(session.settings)
        if not freely:
            return tokens
        free = builder.parametric(as_question(records[asked[place]]))
        return max(tokens, len(free) + session.settings.answer_tokens)

    mine = [records[origin] for origin in asked]
    strict = session.run.strict
    unfit, dropped = unfit_records(session.model, mine, tokens_of, strict=strict)
    session.run.drop(dropped, name)
    return binary.without({asked[place] for place in unfit})


def _as_asked(
    session: Session, examples: Sequence[BinaryExample], name: str = "the data"
) -> list[BinaryExample]:
    """Examples as the scenario asks them; their evidence is given already."""
    negated = session.settings.scenario == "negated"
    return in_scenario(examples, "negated", name=name) if negated else list(examples)


def _reply_tokens(settings: Settings) -> int:
    """Tokens that are generated after a yes/no prompt at most."""
    if settings.scenario == "cot":
        return settings.reasoning_tokens
    return VERDICT_TOKENS if settings.decoder == "generate" else 0


def fits(
    session: Session,
    question: Question,
    shots: Sequence[BinaryExample] = (),
    *,
    unmade: bool = False,
) -> bool:
    """Whether both prompts of a question, with their answers, fit the model's context.

    ``unmade`` is returned where one of them cannot be made.
    """
    limit, settings = context_length(session.model), session.settings
    if limit is None:
        return True
    builder = session.builder(shots, settings.scenario)
    try:
        [example] = _as_asked(session, [positive_example(question)])
        binary = len(builder.binary(example).token_ids)
        free = len(builder.parametric(question)) + settings.answer_tokens
    except PromptError:
        return unmade
    return max(binary + max(VERDICT_TOKENS, _reply_tokens(settings)), free) <= limit


def as_question(record: Record) -> Question:
    """Return a record as a question for Prompt II; the answer to a yes/no question is yes or no."""
    if isinstance(record, Question):
        return record
    word = "Yes" if record.known_label else "No"
    return Question(record.asked, word, record.context, (word.lower(), word.upper()), id=record.id)
