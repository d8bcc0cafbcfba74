"""No operation mixes the tensors of two devices: checked without an accelerator.

A model on torch's meta device stands for one on an accelerator. Its tensors have shapes and no
values; what would be read off the device is made up, and counted, for a program that reads waits.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

import tiny
from nasalign.config import Settings
from nasalign.inference import forward
from nasalign.inference.attention_map import attention_map
from nasalign.inference.scoring import score_prompts
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner
from nasalign.nasa_plus.attribution import attribution
from nasalign.nasa_plus.divergence import Answered
from nasalign.nasa_plus.joint_pairs import JointSamples, PromptPair
from nasalign.nasa_plus.joint_tuning import JointTuner
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.masking import masked, projections
from nasalign.rivals.observed import last_inputs
from nasalign.rivals.steering import SteeringVector
from nasalign.rivals.unibias import components

aten = torch.ops.aten
_MOVES = (aten._to_copy.default, aten.copy_.default)
_INDEXES = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class Elsewhere(TorchDispatchMode):
    """Lets the meta device be one that computes; ``reads`` counts what was read off it.

    Raises:
        AssertionError: an operation has tensors of two devices, as none on CUDA may. Numbers
            (tensors without dimensions) and indices of the CPU are what CUDA takes too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if func in _MOVES:
            return self._moved(func, args, kwargs)
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            self.reads += 1
            return True if args[0].dtype == torch.bool else 1
        if func in _INDEXES:  # the indices may be on the CPU
            tensors = [args[0], *(one for one in args[2:3] if isinstance(one, Tensor))]
        devices = {one.device.type for one in tensors if one.dim() > 0 or one.is_meta}
        assert len(devices) < 2, f"{func} has tensors of {sorted(devices)}"
        return func(*args, **kwargs)

    def _moved(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        to_cpu = func is aten.copy_.default and not args[0].is_meta and args[1].is_meta
        if to_cpu:
            self.reads += 1
            return args[0].zero_()
        if args[0].is_meta and str(kwargs.get("device", "meta")) == "cpu":
            self.reads += 1
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


HEADS = [Head(1, 2, 0.0), Head(2, 0, 0.0)]
SETTINGS = Settings(tuning_batch_size=4, batch_size=4, joint_batch_size=4, joint_epochs=1)
Use = Callable[[PreTrainedModel, list[BinaryPrompt]], object]


def score(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    scores = score_prompts(model, prompts, batch_size=4)
    assert scores.nas.device.type == scores.p_positive.device.type == "cpu"


def tune(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    tuner = RowTuner(model, prompts, prompts, SETTINGS, HEADS)
    for head in HEADS:
        tuner.begin(head)
        tuner.train_epoch()
        tuner.measure()
        tensors, plain = tuner.head_state()
        assert {one.device.type for one in tensors.values()} == {"cpu"}
        tuner.restore_head(tensors, plain, 1)
        tuner.restore()
        tuner.finish()


def tune_together(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    twins = [
        PromptPair(*pair, "knowledge") for pair in zip(prompts[::2], prompts[1::2], strict=True)
    ]
    free = [Answered((5, 6, 7, 8, 9), 3), Answered((5, 6, 7, 8), 2)]
    assert (
        len(list(JointTuner(model, JointSamples(twins, twins, free), HEADS, SETTINGS).tune())) == 2
    )


def attribute(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    attribution(model, list(zip(prompts[::2], prompts[1::2], strict=True)))


def steer(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    (state,) = last_inputs(model, prompts, ["model.layers.1"], 4)
    with SteeringVector(1, state.mean(dim=0)).on(model):
        score_prompts(model, prompts)


def mask(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    names = [name for pair in projections(model) for name in pair]
    states = dict(zip(names, last_inputs(model, prompts, names, 4), strict=True))
    found = components(model, (7, 8), states)
    with masked(model, found["heads"].of([0, 3])):
        score_prompts(model, prompts)


def see(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> None:
    attention_map(model, prompts[:2], [(1, 2), (2, 0)])


# But mixtures of experts: which tokens go to which expert, only values can say.
LAYOUTS = ("llama", "mistral", "gemma2", "gemma3", "phi3", "gpt_neox")
CASES = [
    *((score, name) for name in LAYOUTS),
    *((tune, name) for name in ("llama", "gemma2", "phi3")),
    *((use, "llama") for use in (tune_together, attribute, steer, mask, see)),
]


@pytest.mark.parametrize(("use", "name"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_nothing_is_of_two_devices(use: Use, name: str, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(name).requires_grad_(False).to("meta")
    with Elsewhere():
        use(model, prompts)


@pytest.mark.parametrize(("share", "looks"), [(True, 0), (False, 1)], ids=["shared", "whole"])
def test_a_batch_waits_for_the_device_only_for_its_figures(
    share: bool, looks: int, prompts: list[BinaryPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache transformers looks once whether sequences are packed (``looks``)."""
    monkeypatch.setattr(forward, "TOKENS_WORTH_A_PASS", 1 if share else 10**6)
    model = tiny.build_model("llama").requires_grad_(False).to("meta")
    with Elsewhere() as device:
        score_prompts(model, prompts, batch_size=len(prompts))  # tries the shared prefix out, once
        device.reads = 0
        score_prompts(model, prompts, batch_size=len(prompts))
        assert device.reads == 3 + looks  # both probabilities and NAS
        tuner = RowTuner(model, prompts, prompts, SETTINGS, HEADS)
        tuner.begin(HEADS[1])
        device.reads = 0
        with tuner.rows:
            tuner.optimizer.step([0, 1, 2, 3])
        assert device.reads == 1 + looks  # the loss


def test_a_mixture_of_devices_is_seen() -> None:
    here, there = torch.ones(3), torch.ones(3, device="meta")
    with Elsewhere():
        assert (there[torch.tensor([0, 2])] * torch.tensor(2.0)).is_meta
        assert not there.cpu().any()
        with pytest.raises(AssertionError, match="has tensors of"):
            here + there
        with pytest.raises(AssertionError):
            there.gather(0, torch.tensor([1]))
