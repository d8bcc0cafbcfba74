"""Material for rivals: a tiny model, facts that it may be fitted on, and what tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nasalign.config import Settings
from nasalign.data.binary import to_binary
from nasalign.data.records import BinaryExample, Question, load_facts
from nasalign.inference.scoring import score_prompts
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.probing import build_probing_set
from nasalign.rivals.rival import Material
from nasalign.run import Run
from nasalign.session import Session

KNOWN = 12  # questions that the tiny model is said to know


def material(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **settings: Any
) -> Material:
    """Returns what rivals are fitted on; settings may be changed by name."""
    chosen = Settings().replace({"validation_samples": 2, **settings})
    model.requires_grad_(False)
    questions = facts("probing", KNOWN)
    pairs = both_sides(questions)
    known = [Parametric(question, question.answer, True) for question in questions]
    session = Session(model, tokenizer, chosen)
    return Material(
        session=session,
        asked=known,
        probing=build_probing_set(session, known),
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


@torch.no_grad()
def logits(model: PreTrainedModel, ids: Tensor | None = None) -> Tensor:
    """Returns the logits after some tokens, without a cache."""
    ids = torch.arange(5, 25)[None] if ids is None else ids
    found: Tensor = model(input_ids=ids, use_cache=False).logits
    return found


def hooks(model: PreTrainedModel) -> int:
    """Returns the number of hooks that are in a model."""
    return sum(len(one._forward_pre_hooks) + len(one._forward_hooks) for one in model.modules())


def same_in_a_batch(given: Material) -> None:
    """Checks that a batch with a shared prefix gives what each prompt gives alone."""
    prompts = [given.builder().binary(example) for example in given.development]
    together = score_prompts(given.model, prompts, batch_size=7, record=False)
    for place in range(0, len(prompts), 5):
        said = logits(given.model, torch.tensor([prompts[place].token_ids]))[0, -1].softmax(0)
        alone = said[list(prompts[place].answers.positive)].sum()
        torch.testing.assert_close(together.p_positive[place], alone, rtol=1e-4, atol=1e-7)


CITIES = ("Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo")
CITY_PAIRS = [  # learnable: the right answers are the first three cities
    (
        BinaryExample(f"Which city is number {number}?", True, CITIES[number % 3]),
        BinaryExample(f"Which city is number {number}?", False, CITIES[3 + number % 3]),
    )
    for number in range(10)
]
CITY_EXAMPLES = [example for pair in CITY_PAIRS for example in pair]


def learnable(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **settings: Any
) -> Material:
    """Returns a material whose development examples are the city pairs."""
    made = material(model, tokenizer, **settings)
    return replace(made, session=made.session.with_run(Run()), development=CITY_EXAMPLES)


def state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything of a model that training might change beside the values of its weights."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return {
        "modules": [(name, type(module)) for name, module in model.named_modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "hooks": [len(getattr(module, kind)) for module in model.modules() for kind in kinds],
        "training": [module.training for module in model.modules()],
        "parameters": [
            (name, id(one), one.data_ptr(), one.requires_grad, one.grad, one.dtype)
            for name, one in model.named_parameters()
        ],
        "config": model.config.to_dict(),
        "generation": model.generation_config.to_dict(),
    }
