"""A trained change of a model, by hooks: no weight of the model is ever written."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.inference.batches import HasTokens
from nasalign.inference.forward import answer_logits
from nasalign.inference.packed import packed_logits


class Change(nn.Module):
    """What is trained beside a model: its parameters are those of the change alone.

    Hooks rather than wrapped layers: the modules of the model keep their types, which whatever
    reads the architecture relies on, leaving restores the model to the bit, and in bfloat16 only
    the sum with what the model computes is rounded.

    Attributes:
        packs: whether a training step may pack its prompts in a row (``packed``).
    """

    packs = False

    def hooks(self, model: PreTrainedModel) -> Iterator[RemovableHandle]:
        """Put in the hooks that make the change, one after the other."""
        raise NotImplementedError

    def draw(self, generator: torch.Generator) -> None:
        """Draw the noise of a training step; most changes have none."""

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of a training step, a scalar, or None."""
        return None

    def logits(self, model: PreTrainedModel, prompts: Sequence[HasTokens]) -> Tensor:
        """Return the logits [B, vocabulary] after prompts in a training step, within ``on``."""
        return (packed_logits if self.packs else answer_logits)(model, prompts)

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        """Make the change while in the context."""
        with ExitStack() as stack:
            for hook in self.hooks(model):
                stack.callback(hook.remove)
            yield

    def copies(self) -> dict[str, Tensor]:
        """Return copies of what is trained, as ``load_state_dict`` takes them."""
        return {name: one.detach().clone() for name, one in self.state_dict().items()}

    @property
    def numbers(self) -> int:
        """Number of trained numbers."""
        return sum(one.numel() for one in self.parameters())


def trained_dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the type that a change of a model is trained in: float32, or float64 of its own."""
    return torch.promote_types(model.dtype, torch.float32)
