"""An evaluation of verdicts that are written down, with made probabilities and NAS."""

import torch

from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.inference.scoring import Scores
from nasalign.inference.verdicts import Verdict


def evaluation(
    verdicts: list[Verdict],
    labels: list[bool],
    questions: list[str] | None = None,
    *,
    unsure: bool = False,
) -> Evaluation:
    """Each example is of a question of its own unless given; ``unsure`` allows a third answer."""
    count = len(verdicts)
    questions = questions or [f"question {index}" for index in range(count)]
    examples = [BinaryExample(*pair) for pair in zip(questions, labels, strict=True)]
    generator = torch.Generator().manual_seed(1)
    p_positive, p_negative, p_unsure = torch.rand(3, count, generator=generator) / 3
    nas = torch.randn(count, 2, 3, generator=generator)
    third = {"p_unsure": p_unsure} if unsure else {}
    return Evaluation(examples, Scores(p_positive, p_negative, verdicts, nas, **third))
