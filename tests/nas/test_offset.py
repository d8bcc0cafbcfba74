"""The offset equals attention taken from scratch with it, wherever the words lie, and else nothing.

`literal` below is the slow definition: all scores, the offset added to two columns, one softmax.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

import reference
import tiny
from nasalign.data.records import BinaryExample
from nasalign.inference.forward import answer_logits, shared_prefix
from nasalign.inference.generation import generate
from nasalign.nas.offset import attention_offset, words_of
from nasalign.nas.recorder import NasRecorder, Positions
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

WORDS = (7, 8, 9)
STARTS, LENGTHS = (3, 2, 4), (26, 17, 21)
FIRST_ROW = 3  # after the end of the words
EXACT = {"atol": 1e-10, "rtol": 1e-10}


def offsets_of(model: PreTrainedModel, seed: int = 3) -> Tensor:
    """Random offsets, none of them small; those of the second layer are 0."""
    shape = model.config.num_hidden_layers, model.config.num_attention_heads
    drawn = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    drawn[1] = 0
    return drawn.double()


def samples() -> list[Tensor]:
    """Samples of unequal length, each with the words once and again later."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(10, 500, (length,), generator=generator) for length in LENGTHS]
    for sample, start in zip(drawn, STARTS, strict=True):
        sample[start : start + 3] = torch.tensor(WORDS)
        sample[-4:-1] = torch.tensor(WORDS)  # only the first counts
    return drawn


def padded(side: str, chosen: list[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """A batch, and where its samples begin."""
    longest = max(map(len, chosen))
    ids = torch.zeros(len(chosen), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    shift = torch.tensor([longest - len(one) if side == "left" else 0 for one in chosen])
    for row, sample in enumerate(chosen):
        place = slice(int(shift[row]), int(shift[row]) + len(sample))
        ids[row, place], mask[row, place] = sample, 1
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": places}, shift


@contextmanager
def literal(model: PreTrainedModel, offsets: Tensor, yes: int, no: int) -> Iterator[list[Tensor]]:
    """Computes attention from scratch, of one sample; collects the weights [H, T, T] by layer."""
    weights: list[Tensor] = []

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **options: Any
    ) -> tuple[Tensor, None]:
        heads = query.shape[1]
        key, value = (one.repeat_interleave(heads // one.shape[1], 1)[0] for one in (key, value))
        scores = query[0] @ key.transpose(1, 2) * options["scaling"]  # [H, T, T]
        if options.get("softcap"):
            scores = torch.tanh(scores / options["softcap"]) * options["softcap"]
        open_keys = mask[0, 0] == 0  # [T, T]
        both = open_keys[:, yes] & open_keys[:, no]
        for head, row in itertools.product(range(heads), both.nonzero().flatten().tolist()):
            scores[head, row, yes] += offsets[module.layer_idx, head] / 2
            scores[head, row, no] -= offsets[module.layer_idx, head] / 2
        rows = scores.exp() * open_keys
        total = rows.sum(dim=-1, keepdim=True)
        if hasattr(module, "sinks"):
            total = total + module.sinks[:, None, None].exp()
        rows = rows / total
        weights.append(rows)
        return (rows @ value).transpose(0, 1)[None], None

    AttentionInterface.register("literal", attend)
    AttentionMaskInterface.register("literal", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    previous = model.config._attn_implementation
    model.set_attn_implementation("literal")
    try:
        yield weights
    finally:
        model.set_attn_implementation(previous)


@pytest.fixture
def all_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps what is float64 so: norms and eager attention take float32, whatever the model's type.

    Rounded to float32 between the layers, two sums that differ in the sixteenth digit now and then
    differ in the seventh.
    """
    to, as_float = Tensor.to, Tensor.float

    def stay(self: Tensor, *args: Any, **options: Any) -> Tensor:
        down = self.dtype == torch.float64 and torch.float32 in (*args, *options.values())
        return self if down else to(self, *args, **options)

    monkeypatch.setattr(Tensor, "to", stay)
    monkeypatch.setattr(
        Tensor, "float", lambda self: self if self.dtype == torch.float64 else as_float(self)
    )
    with reference.softmax_in_float64():
        yield


def from_scratch(
    model: PreTrainedModel, sample: Tensor, start: int, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits [T, vocabulary] and NAS [L, H] of one sample."""
    yes, no = start, start + 2
    with torch.no_grad(), literal(model, offsets, yes, no) as weights:
        logits = model(sample[None]).logits[0]
    rows = no + FIRST_ROW
    nas = [[reference.nas(head, yes, no, rows) for head in layer] for layer in weights]
    return logits, torch.tensor(nas, dtype=torch.float64)


@pytest.mark.usefixtures("all_float64")
@pytest.mark.parametrize(("side", "order"), [("left", "inside"), ("right", "outside")])
def test_equals_attention_from_scratch(family: str, side: str, order: str) -> None:
    """The logits, and the NAS that a recorder takes inside of the offset and outside."""
    model = tiny.build_model(family, dtype=torch.float64)
    offsets, chosen = offsets_of(model), samples()
    inputs, shift = padded(side, chosen)
    starts = torch.tensor(STARTS) + shift
    ends = shift + torch.tensor(LENGTHS)
    positions = Positions(starts, starts + 2, starts + 2 + FIRST_ROW, ends)
    contexts = [attention_offset(model, offsets, WORDS), recorder := NasRecorder(model)]
    if order == "outside":
        contexts.reverse()
    with torch.no_grad(), contexts[0], contexts[1]:
        recorder.expect(positions)
        logits = model(**inputs).logits
    for row, (sample, start) in enumerate(zip(chosen, STARTS, strict=True)):
        expected, nas = from_scratch(model, sample, start, offsets)
        own = logits[row, shift[row] : ends[row]]
        torch.testing.assert_close(own, expected, **EXACT)
        torch.testing.assert_close(recorder.nas[row], nas, **EXACT)


@pytest.mark.usefixtures("all_float64")
def test_it_matters(family: str) -> None:
    """What the other tests find equal is not what the model says without an offset."""
    model = tiny.build_model(family, dtype=torch.float64)
    ids = samples()[0][None]
    with torch.no_grad():
        before = model(ids).logits
        with attention_offset(model, offsets_of(model), WORDS):
            after = model(ids).logits
    assert (before - after)[0, : STARTS[0] + 2].abs().max() < 1e-12  # rows that see not both
    assert (before - after)[0].abs().max() > 0.01


@pytest.mark.usefixtures("all_float64")
def test_an_offset_of_0_is_no_offset(family: str) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    inputs, _ = padded("left", samples())
    none = torch.zeros_like(offsets_of(model))
    with torch.no_grad():
        before = model(**inputs).logits
        with attention_offset(model, none, WORDS):
            assert torch.equal(model(**inputs).logits, before)
    with attention_offset(model, none.requires_grad_(), WORDS):
        after = model(**inputs).logits
    seen = inputs["attention_mask"].bool()
    torch.testing.assert_close(after[seen], before[seen], atol=1e-12, rtol=1e-12)


@pytest.mark.usefixtures("all_float64")
@pytest.mark.parametrize("cut", [1, 4, 9, 20])
def test_later_passes_know_where_the_words_were(family: str, cut: int) -> None:
    """Whatever a cache keeps: all keys, or those of a window; also of words that are cut in two."""
    model = tiny.build_model(family, dtype=torch.float64)
    ids, offsets = samples()[0][None], offsets_of(model)
    with torch.no_grad(), attention_offset(model, offsets, WORDS):
        whole = model(ids).logits
        first = model(ids[:, :cut], use_cache=True)
        later = [first.logits]
        for place in range(cut, ids.shape[1]):  # one token at a time, as in generation
            step = model(ids[:, place : place + 1], past_key_values=first.past_key_values)
            later.append(step.logits)
    torch.testing.assert_close(torch.cat(later, dim=1), whole, **EXACT)


@pytest.fixture(params=["llama", "mistral", "gemma2", "gpt_oss"])
def prompted(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[BinaryPrompt]]:
    builder = PromptBuilder(tokenizer)
    answers = ("Paris", "London", "the city of Rome")
    asked = [BinaryExample("What is the capital of France?", True, one) for one in answers]
    prompts = [builder.binary(example) for example in asked]
    return tiny.build_model(request.param, dtype=torch.float64), tokenizer, prompts


@pytest.mark.usefixtures("all_float64")
def test_a_shared_prefix_is_exact(prompted: Any) -> None:
    model, _, prompts = prompted
    offsets, words = offsets_of(model), words_of(prompts[0])
    assert shared_prefix(prompts) > prompts[0].negative_position
    with torch.no_grad():
        plain = answer_logits(model, prompts)
        with attention_offset(model, offsets, words):
            together = answer_logits(model, prompts)
            alone = torch.cat([answer_logits(model, [prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, **EXACT)
    if model.config._attn_implementation == "sdpa" and not model.config.to_dict().get(
        "sliding_window"
    ):
        assert (together - plain).abs().max() > 0.01
    for row, prompt in enumerate(prompts):
        yes, no = prompt.positive_position, prompt.negative_position
        with torch.no_grad(), literal(model, offsets, yes, no):
            expected = model(torch.tensor([prompt.token_ids])).logits[0, -1]
        torch.testing.assert_close(together[row], expected, **EXACT)


@pytest.mark.usefixtures("all_float64")
def test_generation_has_the_offset(prompted: Any) -> None:
    model, tokenizer, prompts = prompted
    offsets, words = 4 * offsets_of(model), words_of(prompts[0])
    tokenizer.eos_token_id = None
    with attention_offset(model, offsets, words):
        together = generate(model, tokenizer, prompts, 4).texts
        alone = [generate(model, tokenizer, [prompt], 4).texts[0] for prompt in prompts]
    assert together == alone
    for prompt, text in zip(prompts, alone, strict=True):
        ids = list(prompt.token_ids)
        yes, no = prompt.positive_position, prompt.negative_position
        for _ in range(4):
            with torch.no_grad(), literal(model, offsets, yes, no):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        said = tokenizer.decode(ids[len(prompt.token_ids) :], skip_special_tokens=True)
        assert said.strip().startswith(text)


def without_words() -> list[Tensor]:
    chosen = samples()
    for sample in chosen:
        sample[sample == WORDS[1]] = 10
    return chosen


def test_without_the_words_nothing_changes_to_the_bit(family: str) -> None:
    model = tiny.build_model(family)
    inputs, _ = padded("left", without_words())
    one = torch.tensor([[WORDS[0]]])  # shorter than the words
    with torch.no_grad():
        before = model(**inputs).logits, model(one).logits
        with attention_offset(model, offsets_of(model), WORDS):
            after = model(**inputs).logits, model(one).logits
    assert all(torch.equal(*both) for both in zip(before, after, strict=True))


def test_nor_do_samples_without_them_beside_one_that_has_them(family: str) -> None:
    if family in tiny.MIXTURES:
        pytest.skip(
            "an expert's matrix product is of all samples' tokens, and rounds by their number"
        )
    model = tiny.build_model(family)
    inputs, _ = padded("left", [samples()[0], *without_words()[1:]])
    with torch.no_grad():
        before = model(**inputs).logits
        with attention_offset(model, offsets_of(model), WORDS):
            after = model(**inputs).logits
    assert torch.equal(before[1:], after[1:])
    assert not torch.equal(before[0], after[0])


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flex_attention"])
def test_leaving_restores_also_after_an_exception(implementation: str) -> None:
    model = tiny.build_model("llama")
    inputs, _ = padded("right", samples())
    with torch.no_grad():
        before = model(**inputs).logits
        model.config._attn_implementation = implementation

        def fail(*_: Any) -> None:
            assert model.config._attn_implementation.startswith("nasalign_offset")
            raise KeyError

        failing = model.model.layers[1].register_forward_pre_hook(fail)
        with pytest.raises(KeyError), attention_offset(model, offsets_of(model), WORDS):
            model(**inputs)
        failing.remove()
        assert model.config._attn_implementation == implementation
        with attention_offset(model, offsets_of(model), WORDS):  # there can be another one
            model(**inputs)
        assert model.config._attn_implementation == implementation
        model.config._attn_implementation = "sdpa"
        assert not model.model._forward_pre_hooks
        assert not model.model._forward_hooks
        assert torch.equal(model(**inputs).logits, before)


@pytest.mark.usefixtures("all_float64")
def test_its_gradient_is_that_of_the_logits() -> None:
    model = tiny.build_model("llama", dtype=torch.float64).requires_grad_(False)
    inputs, _ = padded("right", samples())
    at, step = offsets_of(model), 1e-5

    def says(offsets: Tensor) -> Tensor:
        with attention_offset(model, offsets, WORDS):
            return model(**inputs).logits[:, 12, 40].sum()

    (gradient,) = torch.autograd.grad(says(at.requires_grad_()), at)
    for place in ((0, 0), (0, 3), (1, 2), (2, 1)):
        moved = torch.zeros_like(at)
        moved[place] = step
        with torch.no_grad():
            difference = (says(at + moved) - says(at - moved)) / (2 * step)
        torch.testing.assert_close(gradient[place], difference, atol=1e-7, rtol=1e-5)


def test_half_precision() -> None:
    model, exact = (tiny.build_model("llama", dtype=d) for d in (torch.bfloat16, torch.float64))
    ids = samples()[0][None]
    said = []
    with torch.no_grad():
        for one in (model, exact):
            with attention_offset(one, offsets_of(one), WORDS):
                said.append(one(ids).logits.double())
        plain = exact(ids).logits
    after = slice(STARTS[0] + 3, None)
    error, change = (said[0] - said[1])[0, after].norm(), (plain - said[1])[0, after].norm()
    assert error < change / 4


def test_what_does_not_fit_is_refused(prompted: Any) -> None:
    model, _, prompts = prompted
    offsets, words = offsets_of(model), words_of(prompts[0])
    with pytest.raises(ValueError, match=r"offsets are \(2, 4\), the heads \(3, 4\)"):
        attention_offset(model, offsets[:2], words).__enter__()
    with pytest.raises(ValueError, match="at least two tokens"):
        attention_offset(model, offsets, words[:1]).__enter__()
    with pytest.raises(ValueError, match="not before the negative one"):
        words_of(prompts[0].mirrored())
    ids = torch.tensor([prompts[0].token_ids])
    filled = model(ids, use_cache=True).past_key_values
    with attention_offset(model, offsets, words):
        with pytest.raises(RuntimeError, match="already"):
            attention_offset(model, offsets, words).__enter__()
        with pytest.raises(ValueError, match="by token ids"):
            model(inputs_embeds=model.get_input_embeddings()(ids))
        with pytest.raises(ValueError, match="not read within"):
            model(ids[:, :1], past_key_values=filled)
    assert model.config._attn_implementation in ("sdpa", "eager")


def test_words_are_from_the_first_to_the_second(tokenizer: PreTrainedTokenizerFast) -> None:
    for vocabulary, text in (("yes/no", " Yes or No"), ("true/false", " True or False")):
        prompt = PromptBuilder(tokenizer, vocabulary).binary(BinaryExample("Is it?", True))
        assert tokenizer.decode(words_of(prompt)) == text
