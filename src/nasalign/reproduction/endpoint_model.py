"""A model behind an endpoint, asked the paper's yes/no questions (GPT-4 in Figure 1)."""

from collections.abc import Sequence

import torch

from nasalign.data.conversation import Chat, Conversation
from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.inference.scoring import Scores
from nasalign.inference.verdicts import parse_verdict
from nasalign.progress import Progress
from nasalign.prompts.prompt_one import prompt_1
from nasalign.prompts.wordings import VOCABULARIES


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
