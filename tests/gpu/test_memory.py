"""Where activations are held changes no value."""

from collections.abc import Callable

import torch

from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.prompts.builder import BinaryPrompt
from precision import model_on


def test_activations_beside_the_device_give_the_same_bytes(
    prompts: list[BinaryPrompt], device: torch.device, note: Callable[..., None]
) -> None:
    model = model_on("llama", torch.bfloat16, device)
    found, held = [], []
    for memory in (ActivationMemory(), ActivationMemory(budget=0)):
        replay = Replay(model, prompts, 4, memory)
        replay.prepare(2)
        with torch.no_grad():
            found.append(replay.logits([2, 0, 1], 2))
        held.append(replay.inputs[2].rows)
        places = memory.places(model.device)
    near, beside = held
    note(pinned=beside.is_pinned())
    assert near.device.type == device.type
    assert beside.device.type == "cpu"
    assert beside.is_pinned() == (device.type == "cuda")
    names = {"cpu": "a file", "cuda": "pinned main memory"}
    assert [place.name for place in places if place.held] == [names[device.type]]
    assert torch.equal(near.cpu(), beside)
    assert torch.equal(*found)
