"""Material for rivals: a tiny model, and facts that it may be fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nasalign.config import Settings
from nasalign.data.binary import to_binary
from nasalign.data.records import BinaryExample, Question, load_facts
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.probing import ProbingSet, build_probing_set
from nasalign.rivals.rival import Material
from nasalign.run import Run

KNOWN = 12  # questions that the tiny model is said to know


def material(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path | None = None,
    **settings: Any,
) -> Material:
    """Returns what rivals are fitted on; settings may be changed by name."""
    chosen = Settings().replace({"validation_samples": 2, **settings})
    model.requires_grad_(False)
    questions = facts("probing", KNOWN)
    pairs = both_sides(questions)
    return Material(
        model=model,
        tokenizer=tokenizer,
        settings=chosen,
        run=Run(folder=tmp_path),
        asked=questions,
        probing=probing_of(model, tokenizer, questions, chosen),
        same=[example for example in pairs if example.label],
        pairs=pairs,
        development=both_sides(facts("development", 10)),
        shots=pairs[:1] + pairs[3:4],
    )


def facts(split: Any, count: int) -> list[Question]:
    """Returns facts of a split, as many kinds as it has."""
    found = load_facts(split)
    return found[:: len(found) // count][:count]


def both_sides(questions: list[Question]) -> list[BinaryExample]:
    """Returns each question with its right and a wrong answer."""
    return to_binary(questions, 0, load_facts()).examples


def probing_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: list[Question],
    settings: Settings,
) -> ProbingSet:
    """Returns the probing set of a model that knows every answer."""
    known = [Parametric(question, question.answer, True) for question in questions]
    return build_probing_set(model, tokenizer, known, settings)
