"""The recorder equals the paper's equation for every family and padding, and disturbs nothing."""

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

import architectures
import reference
import tiny
from nasalign.models.geometry import HeadGeometry
from nasalign.nas import attention_scores as module
from nasalign.nas.heads import model_nas
from nasalign.nas.positions import Positions
from nasalign.nas.recorder import NasRecorder
from padded import FIRST_ROW, NEGATIVE, POSITIVE, batch, record


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_equals_the_reference(family: str, side: str) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    samples, inputs, positions = batch(side)
    with reference.as_precise(model):
        nas = record(model, inputs, positions)
    places = zip(samples, POSITIVE, NEGATIVE, FIRST_ROW, strict=False)
    expected = torch.stack([reference.nas_of_sample(model, *place) for place in places])
    assert nas.dtype == torch.float64
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(nas, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", architectures.TYPES)
def test_equals_the_reference_in_the_layers_that_have_heads(name: str) -> None:
    model = architectures.build(name, torch.float64)
    samples, inputs, positions = batch("none")
    inputs = {"input_ids": inputs["input_ids"]}
    with reference.softmax_in_float64():
        nas = record(model, inputs, positions)[0]
    weights = reference.attention_weights(model, samples[0])
    place = (POSITIVE[0], NEGATIVE[0], FIRST_ROW[0])
    expected = HeadGeometry.of(model).blank(torch.float64)
    known = sorted({layer for layer, _ in HeadGeometry.of(model).places})
    # Eager MiniMax has attention to show of its other layers too.
    shown = [of for of in weights if of.dim() == 3 and of.shape[-1] == len(samples[0])]
    for layer, heads in zip(known, shown[-len(known) :], strict=True):
        own = torch.tensor([reference.nas(head, *place) for head in heads], dtype=torch.float64)
        expected[layer, : len(own)] = own
    assert expected.nan_to_num().abs().max() > 0.05
    torch.testing.assert_close(nas, expected, atol=1e-4, rtol=1e-4, equal_nan=True)


def test_a_head_that_cannot_be_computed_is_infinite_and_not_missing() -> None:
    model = architectures.build("qwen3_next")
    _, inputs, positions = batch("none")
    rows = HeadGeometry.of(model).rows(1, 2).query
    model.get_submodule(rows.module).weight[rows.start : rows.stop] = torch.nan
    nas = record(model, inputs, positions)
    assert nas[0].isnan().tolist() == [[True] * 4, [False] * 4, [True] * 4]
    assert nas[0, 1].isinf().tolist() == [False, False, True, False]
    assert not model_nas(nas).isfinite().any()


def test_blocks_do_not_change_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.build_model("gpt_oss", dtype=torch.float64)
    _, inputs, positions = batch("left")
    whole = record(model, inputs, positions)
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 1)  # 16 keys at a time
    torch.testing.assert_close(record(model, inputs, positions), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "phi3"])
def test_the_logsumexp_of_the_kernel_is_the_one_taken_here(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build_model(name, dtype=torch.float64)
    _, inputs, positions = batch("left")
    asked: list[bool] = []
    real = module.KernelLogsumexp.of

    def of(self: module.KernelLogsumexp, query: torch.Tensor) -> torch.Tensor | None:
        asked.append(real(self, query) is not None)
        return real(self, query)

    monkeypatch.setattr(module.KernelLogsumexp, "of", of)
    fast = record(model, inputs, positions)
    assert asked == [True] * model.config.num_hidden_layers
    monkeypatch.setattr(module.KernelLogsumexp, "of", lambda self, query: None)
    torch.testing.assert_close(record(model, inputs, positions), fast, atol=1e-11, rtol=1e-11)


def test_logits_stay_equal_to_the_bit_and_the_attention_is_restored(family: str) -> None:
    model = tiny.build_model(family)
    implementation = model.config._attn_implementation
    _, inputs, positions = batch("left")
    with torch.no_grad():
        before = model(**inputs).logits
        with NasRecorder(model) as recorder:
            recorder.expect(positions)
            during = model(**inputs).logits
        after = model(**inputs).logits
    assert model.config._attn_implementation == implementation
    assert torch.equal(before, during)
    assert torch.equal(before, after)


def test_of_a_multimodal_model_the_text_model_alone_is_switched() -> None:
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = LlavaConfig(
        text_config=LlamaConfig(**tiny.GROUPED), vision_config=CLIPVisionConfig(**vision)
    )
    model = LlavaForConditionalGeneration(config).eval()
    model.model.vision_tower.set_attn_implementation("eager")
    geometry = HeadGeometry.of(model)
    assert geometry.blocks == tuple(f"model.language_model.layers.{n}" for n in range(3))
    _, inputs, positions = batch("left")

    def used() -> tuple[str, str]:
        parts = model.model.language_model, model.model.vision_tower
        return tuple(part.config._attn_implementation for part in parts)

    before = used()
    with torch.no_grad(), NasRecorder(model) as recorder:
        assert used() == ("nasalign", "eager")
        recorder.expect(positions)
        model(**inputs)
        assert recorder.nas.shape == (3, 3, 4)
        assert recorder.nas.abs().max() > 0
    assert used() == before == ("sdpa", "eager")


def test_restored_after_an_exception() -> None:
    model = tiny.build_model("llama")
    with pytest.raises(KeyError), NasRecorder(model):
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
    with NasRecorder(model):
        pass  # and it can be recorded again


def test_flex_attention_is_recorded_with_what_the_model_supports() -> None:
    model = tiny.build_model("gemma2")
    model.config._attn_implementation_internal = "flex_attention"
    with NasRecorder(model):
        assert model.config._attn_implementation == "nasalign_eager"  # SDPA has no soft-capping


def test_a_masked_answer_word_counts_nothing() -> None:
    model = tiny.build_model("mistral", dtype=torch.float64)
    window = model.config.sliding_window
    _, inputs, positions = batch("none")
    far = Positions(
        positions.positive, positions.negative, positions.negative + window, positions.end_row
    )
    assert torch.equal(record(model, inputs, far), torch.zeros_like(record(model, inputs, far)))


def test_cached_prefix_gives_the_same_sum() -> None:
    """Queries after a key cache are the last positions; rows and columns still count from 0."""
    model = tiny.build_model("llama", dtype=torch.float64)
    _, inputs, positions = batch("none")
    ids = inputs["input_ids"]
    expected = record(model, inputs, positions)
    with torch.no_grad():
        cache = model(ids[:, :8], use_cache=True).past_key_values
        with NasRecorder(model) as recorder:
            recorder.expect(positions)
            model(ids[:, 8:], past_key_values=cache)
    torch.testing.assert_close(recorder.nas, expected, atol=1e-10, rtol=0)


def test_half_precision_gives_finite_scores() -> None:
    model = tiny.build_model("llama", dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "q_proj" in name:
            parameter.data *= 40  # weights so sharp that one of the two underflows
    _, inputs, positions = batch("left")
    nas = record(model, inputs, positions)
    assert nas.dtype == torch.float32
    assert nas.isfinite().all()
