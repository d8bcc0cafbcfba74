"""Running from a layer on gives what the whole model gives."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

import plain_loops
import reference
import tiny
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.head_rows import activations
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.head_rows.rows import head_slices, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nas.recorder import NasRecorder
from nasalign.nasa.algorithm import Limits, incremental_tuning
from nasalign.nasa.decisions import as_row
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from plain_loop import PlainTuner


def replay_of(model: PreTrainedModel, prompts: list[BinaryPrompt], **memory: int) -> Replay:
    return Replay(model, prompts, batch_size=4, memory=ActivationMemory(**memory))


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return [
        builder.binary(BinaryExample(f"What is {' '.join(words[: count % 5 + 1])}?", True, word))
        for count, word in enumerate(words)
    ]


@pytest.mark.parametrize("layer", [1, 2])
def test_logits_and_nas_equal_the_whole_model(
    family: str, layer: int, prompts: list[BinaryPrompt]
) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    with torch.no_grad(), reference.as_precise(model):
        replay = replay_of(model, prompts)
        places = [7, 2, 5]
        with NasRecorder(model) as recorder:
            whole = replay.logits(places, 0, recorder)
            expected = recorder.nas.clone()
            replay.prepare(layer)
            part = replay.logits(places, layer, recorder)
    torch.testing.assert_close(part, whole, atol=1e-10, rtol=0)
    torch.testing.assert_close(recorder.nas[:, layer:], expected[:, layer:], atol=1e-10, rtol=0)
    assert not recorder.nas[:, :layer].any()


def test_layers_below_do_not_run(prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model("llama")
    replay = replay_of(model, prompts)
    replay.prepare(2)
    model.model.layers[0].self_attn.q_proj.weight.data.fill_(float("nan"))
    assert replay.logits([0, 1], 2).isfinite().all()
    assert not replay.logits([0, 1], 0).isfinite().any()  # and they are themselves again


def test_a_forward_that_a_layer_was_given_is_given_back(prompts: list[BinaryPrompt]) -> None:
    """accelerate moves inputs between devices in a forward of the module's own."""
    model = tiny.build_model("llama")
    first = model.model.layers[0]
    first.forward = given = first.forward
    replay = replay_of(model, prompts)
    replay.prepare(2)
    replay.logits([0, 1], 2)
    assert first.__dict__["forward"] is given
    assert all("forward" not in layer.__dict__ for layer in model.model.layers[1:])


def test_prompts_that_share_nothing(prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    replay = replay_of(model, prompts[:1])
    assert replay.prefix == 0
    replay.prepare(1)
    torch.testing.assert_close(replay.logits([0], 1), replay.logits([0], 0), atol=1e-10, rtol=0)


def test_a_change_is_seen_above_and_inputs_advance_from_it(prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    replay = replay_of(model, prompts)
    replay.prepare(1)
    replay.prepare(2)
    where = head_slices(HeadGeometry.of(model), 1, 0, "group")[0]
    size = (where.stop - where.start, model.config.hidden_size)
    write_rows(model, where, torch.randn(size, generator=torch.Generator().manual_seed(3)))
    with torch.no_grad():
        whole = replay.logits([0, 1], 0)
        assert not torch.allclose(replay.logits([0, 1], 2), whole)
        replay.forget(changed=1, later=[1, 2])
        assert sorted(replay.inputs) == [1]
        replay.prepare(2)
        torch.testing.assert_close(replay.logits([0, 1], 2), whole, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["llama", "phi3", "gpt_neox"])
def test_replay_gives_every_figure_of_the_whole_model(
    name: str, prompts: list[BinaryPrompt]
) -> None:
    """Heads of rising and falling layers, kept and cancelled; also where q and k are one weight."""
    heads = [Head(2, 0, 0.0), Head(0, 1, 0.0), Head(1, 2, 0.0), Head(2, 3, 0.0), Head(1, 0, 0.0)]
    settings = Settings(epochs=3, learning_rate=1e-2, tuning_batch_size=4, batch_size=4)
    limits = Limits(epochs=3, rho=-1e9, tau=-1e9, halting_share=1.0)

    rows = []
    for kind in (partial(RowTuner, heads=heads), plain_loops.PlainTuner):
        model = tiny.build_model(name).requires_grad_(False)
        tuner = kind(model, prompts[:6], prompts[6:], settings)
        rows.append([as_row(record) for record in incremental_tuning(heads, tuner, limits)])
    replayed, plain = rows
    kept = [row["kept"] for row in plain if row["record"] == "head"]
    assert True in kept
    assert False in kept
    assert [list(row) for row in replayed] == [list(row) for row in plain]
    for mine, other in zip(replayed, plain, strict=True):
        for key, value in other.items():
            close = pytest.approx(value, rel=1e-3, abs=1e-4) if type(value) is float else value
            assert mine[key] == close, key


def test_what_later_heads_need_is_kept_on_the_way(prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model("llama", dtype=torch.float64, layers=6)
    replay = replay_of(model, prompts)
    assert all(map(replay.exact, range(6)))  # tried out once, before what is counted here
    ran: list[int] = []
    for index, layer in enumerate(model.model.layers):
        mlp = layer.mlp.register_forward_hook(lambda *given, index=index: ran.append(index))
        assert mlp
    replay.prepare(4, later=[5, 2, 2, 1])
    assert sorted(replay.inputs) == [1, 2, 4]
    assert set(ran) == {0, 1, 2, 3}
    replay.forget(changed=None, later=[5, 2])  # 5 is reached from 4, and nothing from 1
    assert sorted(replay.inputs) == [2, 4]
    ran.clear()
    replay.prepare(5)
    assert set(ran) == {4}
    with torch.no_grad():
        whole = replay.logits([3, 1], 0)
        for layer in (2, 4, 5):
            torch.testing.assert_close(replay.logits([3, 1], layer), whole, atol=1e-10, rtol=0)
    replay.forget(changed=2, later=[5])
    assert sorted(replay.inputs) == [2]


@pytest.mark.parametrize("inputs", [0, 1, 2])
def test_where_memory_ends_a_file_goes_on(
    inputs: int, prompts: list[BinaryPrompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = tiny.build_model("llama", dtype=torch.float64, layers=6)
    size = replay_of(model, prompts).bytes_of_an_input
    replay = replay_of(model, prompts, budget=inputs * size)
    replay.prepare(4, later=[1, 2])
    memory, file = replay.memory.places(torch.device("cpu"))
    assert (memory.held, file.held) == (inputs * size, (3 - inputs) * size)
    assert not list(tmp_path.iterdir())  # a file that vanishes with the process
    with torch.no_grad():
        whole = replay.logits([3, 1], 0)
        for layer in (1, 2, 4):
            torch.testing.assert_close(replay.logits([3, 1], layer), whole, atol=1e-10, rtol=0)
    replay.forget(changed=0, later=[])
    assert memory.held == file.held == 0
    assert replay.memory.describe()["a file"]["most_held"] == (3 - inputs) * size


def test_where_there_is_no_room_more_layers_run(
    prompts: list[BinaryPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "DISK_SHARE", 0.0)
    model = tiny.build_model("llama", dtype=torch.float64, layers=6)
    size = replay_of(model, prompts).bytes_of_an_input
    one = replay_of(model, prompts, budget=size)
    one.prepare(2, later=[1])
    assert sorted(one.inputs) == [2]
    one.prepare(4)  # what is needed now takes the place of what was
    assert sorted(one.inputs) == [4]
    none = replay_of(model, prompts, budget=size - 1)
    none.prepare(4)
    assert not none.inputs
    with torch.no_grad():
        whole = none.logits([3, 1], 0)
        for replay in (one, none):
            torch.testing.assert_close(replay.logits([3, 1], 4), whole, atol=1e-10, rtol=0)


def norm_of(offset: int) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """The forward of an RMS norm that stays in the type of its input."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        epsilon = getattr(self, "variance_epsilon", None) or self.eps
        scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon)
        return hidden * scale * (offset + self.weight)

    return forward


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen2"])
def test_every_figure_equals_that_of_the_literal_loop(
    name: str,
    dtype: torch.dtype,
    digits: float,
    prompts: list[BinaryPrompt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shared prefix, replay and rows as parameters, against the whole model and masked weights.

    In float64 the norms must stay there too: rounded to float32, as the families have it, a
    difference in the sixteenth digit becomes one in the eighth, and Adam makes more of it.
    """
    if dtype == torch.float64:
        monkeypatch.setattr(LlamaRMSNorm, "forward", norm_of(0))
        monkeypatch.setattr(Qwen2RMSNorm, "forward", norm_of(0))
        monkeypatch.setattr(Gemma3RMSNorm, "forward", norm_of(1))
    heads = [Head(2, 0, 0.0), Head(0, 1, 0.0), Head(1, 2, 0.0), Head(2, 3, 0.0)]
    settings = Settings(epochs=3, learning_rate=1e-2, tuning_batch_size=4)
    limits = Limits(epochs=3, rho=-1e9, tau=-1e9, halting_share=1.0)
    rows = []
    for kind in (RowTuner, PlainTuner):
        model = tiny.build_model(name, dtype=dtype).requires_grad_(False)
        tuner = kind(model, prompts[:6], prompts[6:], settings)
        rows.append([as_row(record) for record in incremental_tuning(heads, tuner, limits)])
    ours, plain = rows
    assert [row["record"] for row in plain].count("head") == 4
    assert [list(row) for row in ours] == [list(row) for row in plain]
    for mine, other in zip(ours, plain, strict=True):
        for key, value in other.items():
            close = pytest.approx(value, rel=digits, abs=digits) if type(value) is float else value
            assert mine[key] == close, key
