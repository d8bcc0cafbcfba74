"""What rivals that reach into a model share: its layers, inputs of modules, a few examples."""

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.data.records import BinaryExample
from nasalign.errors import ModelError
from nasalign.inference.batches import in_batches
from nasalign.inference.forward import answer_logits, prefix_worth_sharing
from nasalign.inference.packed_batches import PromptRow, packed_batches
from nasalign.inference.prefix import shared_prefix
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.prompts.builder import BinaryPrompt
from nasalign.prompts.wordings import Vocabulary


def layer_names(model: PreTrainedModel) -> list[str]:
    """Return the module names of the L layers, in order.

    Raises:
        ModelError: some of its layers are not modules of their own (LongCat).
    """
    names = HeadGeometry.of(model).blocks
    if not names:
        raise ModelError(
            f"No layer of {type(model).__name__} can be reached into: one of its modules is "
            "several layers."
        )
    return list(names)


def answer_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: BinaryPrompt, words: Vocabulary
) -> tuple[int, int]:
    """Return the first token of each word, both in the form that the model's turn begins with."""
    target, negative = prompt.answers.target, prompt.answers.negative
    said, *others = tokenizer.convert_ids_to_tokens([target, *negative])
    begun = tokenizer.decode([target]).strip()  # the positive word, or its first part
    # What stands before it is the tokenizer's mark of a space, or nothing; the negative word must
    # have the same, or the pair would differ in more than the answer.
    wanted = said.removesuffix(begun) + words.negative
    alike = [token for token, text in zip(negative, others, strict=True) if wanted.startswith(text)]
    return target, (alike or list(negative))[0]


@torch.no_grad()
def last_inputs(
    model: PreTrainedModel,
    prompts: Sequence[BinaryPrompt],
    modules: Sequence[str],
    batch_size: int | None = None,
) -> list[Tensor]:
    """Return the inputs of modules at the last token of N prompts.

    Args:
        model: the model.
        prompts: the prompts.
        modules: names of modules whose first argument is [B, T, width].
        batch_size: prompts a batch; by tokens unless given.

    Returns:
        For each module [N, width], float32 (float64 of a float64 model), on the CPU.
    """
    hidden_size = model.config.get_text_config().hidden_size
    dtype = torch.promote_types(model.dtype, torch.float32)
    widths = [getattr(model.get_submodule(name), "in_features", hidden_size) for name in modules]
    states = [torch.zeros(len(prompts), width, dtype=dtype) for width in widths]
    seen: dict[str, Tensor] = {}
    doing = "reading inner states"

    def see(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[name] = inputs[0]  # overwrites that of the shared prefix, whose pass comes first

        return hook

    def work(indices: list[int]) -> None:
        seen.clear()  # frees what a larger batch left when memory ran out
        batch = [prompts[index] for index in indices]
        prefix = prefix_worth_sharing(model, batch, shared_prefix(batch))
        answer_logits(model, batch, prefix=prefix)
        keep(indices, range(len(batch)), [len(one.token_ids) - prefix - 1 for one in batch])

    def work_on_rows(rows: list[PromptRow], members: list[int]) -> None:
        assert packs
        seen.clear()
        packs.logits(rows)
        keep(members, *packs.ends(rows))

    def keep(indices: list[int], rows: Any, places: Any) -> None:
        for name, found in zip(modules, states, strict=True):
            found[indices] = seen[name][rows, places].cpu().to(dtype)

    packs = packed_batches(model, prompts, record=False) if batch_size is None else None
    with ExitStack() as hooks:
        for name in modules:
            hook = model.get_submodule(name).register_forward_pre_hook(see(name))
            hooks.callback(hook.remove)
        if packs:
            packs.run(work_on_rows, doing=doing)
        else:
            in_batches(model, prompts, batch_size, work, doing=doing)
    processes.add_up(*states)
    return states


def some_of_each(examples: Sequence[BinaryExample], count: int, draw: str) -> list[BinaryExample]:
    """Draw at most ``count`` examples, half of each label, by a seed; keep their order."""
    rng = random.Random(draw)
    chosen: list[int] = []
    for label in (True, False):
        own = [place for place, example in enumerate(examples) if example.label == label]
        chosen += rng.sample(own, min(len(own), count // 2))
    return [examples[place] for place in sorted(chosen)]
