"""A model behind an endpoint, asked the paper's yes/no questions (GPT-4 in Figure 1)."""

from collections.abc import Sequence

import torch

from nasalign.data.conversation import Chat, Conversation
from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.inference.scoring import Scores
from nasalign.inference.verdicts import parse_verdict
from nasalign.progress import Progress
from nasalign.prompts.builder import prompt_1
from nasalign.prompts.wordings import VOCABULARIES
from nasalign.reproduction.paper_sets import PAPER_SETS
from nasalign.reproduction.result import Row
from nasalign.reproduction.study import Study


def endpoint_verdicts(
    chat: Chat, examples: Sequence[BinaryExample], progress: Progress | None = None
) -> Evaluation:
    """Return the verdicts that a model gives on N examples, read off its texts.

    It is asked Prompt I as a message. There are neither probabilities nor NAS: both are 0. A
    question that it refuses has an empty text, whose verdict is invalid.
    """
    conversations = [Conversation("", prompt_1(example)) for example in examples]
    said = [answer or "" for answer in chat.complete(conversations, progress)]
    verdicts = [parse_verdict(text, VOCABULARIES["yes/no"]) for text in said]
    none = torch.zeros(len(examples))
    return Evaluation(examples, Scores(none, none, verdicts, none[:, None, None], said))


def endpoint_rows(study: Study, who: str) -> tuple[list[Row], list[str]]:
    """Return the rows of Figure 1 of a model such as ``openai:gpt-4``, and notes.

    It is asked the examples of a study. What it answered is in the cache of the endpoint, so that
    it is not asked again.
    """
    session, rows, neither = study.session, [], 0
    chat = session.chat(who)
    assert chat, "an endpoint is named"
    name = who.removeprefix("openai:")
    for data in PAPER_SETS:
        examples = study.examples(data)[1].examples
        title = f"{name} answers {data}"
        with session.asking(f"{name}.{data}", title, len(examples), chat) as done:
            found = endpoint_verdicts(chat, examples, done)
        neither += found.scores.verdicts.count("invalid")
        metrics = found.metrics(study.settings.bootstrap_samples, study.settings.seed)
        rows.append(figure_row(data, name, metrics))
    note = (
        f"{name} is asked Prompt I as a message, with the examples of {study.name}; its verdict is "
        f"read off its text, and {neither} of {sum(row['n'] for row in rows)} answers have none."
    )
    return rows, [note]


def figure_row(data: str, model: str, metrics: Row) -> Row:
    """Return a row of Figure 1: precision and recall of a model on a data set."""
    row: Row = {"source": "ours", "dataset": data, "model": model}
    for value in ("precision", "recall"):
        low, high = metrics["intervals"][value]
        row |= {value: metrics[value], f"{value}_low": low, f"{value}_high": high}
    return row | {"n": metrics["n"], "invalid_rate": metrics["invalid_rate"]}
