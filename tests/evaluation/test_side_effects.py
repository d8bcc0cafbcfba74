"""The change on other texts is that of a plain computation, and the model is left as it was."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.adapters.adapter import Adapter, rows_put_back
from nasalign.data.records import Question
from nasalign.evaluation.side_effects import (
    accuracy_change,
    compare_neutral,
    neutral_texts,
)
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.nasa.knowledge import Parametric

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]


def adapter_for(model: PreTrainedModel, scale: float) -> Adapter:
    """A change of two heads' rows, as large as they are times ``scale``."""
    geometry = HeadGeometry.of(model)
    slices = [head_slices(geometry, layer, head, "group") for layer, head in ((0, 1), (2, 2))]
    before = {where: read_weight_rows(model, where) for part in slices for where in part}
    for where, rows in before.items():
        write_rows(model, where, rows + scale * torch.randn(rows.shape).to(rows.dtype))
    adapter = Adapter.between(before, model, "print")
    adapter.revert(model)
    return adapter


def weights(model: PreTrainedModel) -> list[torch.Tensor]:
    return [parameter.clone() for parameter in model.parameters()]


def plain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Iterator[np.ndarray]:
    """Probabilities of the next token [T, V] of each neutral text."""
    for text in neutral_texts():
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0].double().numpy()
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        yield powers / powers.sum(axis=1, keepdims=True)


def test_there_are_two_dozen_texts_that_ask_for_no_yes_or_no() -> None:
    texts = neutral_texts()
    assert len(texts) == len(set(texts)) == 24
    for text in texts:
        assert 60 < len(text) < 400 or not text.isascii()
        assert not {"yes", "no", "true", "false"} & set(text.casefold().split())


def test_equals_a_plain_computation(llama: Llama) -> None:
    model, tokenizer = llama
    adapter = adapter_for(model, 0.3)
    old = list(plain(model, tokenizer))
    adapter.apply(model)
    new = list(plain(model, tokenizer))
    adapter.revert(model)
    found = compare_neutral(model, tokenizer, adapter.on, bootstrap_samples=400)

    divergences, same, surprises = [], [], ([], [])
    for text, p, q in zip(neutral_texts(), old, new, strict=True):
        ids = tokenizer(text)["input_ids"]
        divergences.append([float((p[i] * np.log(p[i] / q[i])).sum()) for i in range(len(ids))])
        same += [p[i].argmax() == q[i].argmax() for i in range(len(ids))]
        for side, surprise in zip((p, q), surprises, strict=True):
            surprise += [-math.log(side[i - 1, ids[i]]) for i in range(1, len(ids))]
    every = np.concatenate(divergences)
    kl, perplexity = found["kl"], found["perplexity"]
    assert every.mean() > 0.01
    assert (kl["prompts"], kl["tokens"]) == (24, len(every))
    assert kl["mean"] == pytest.approx(every.mean(), rel=1e-5)
    assert kl["max"] == pytest.approx(every.max(), rel=1e-5)
    assert kl["same_top_token"] == np.mean(same) < 1
    assert perplexity["tokens"] == len(surprises[0]) == len(every) - 24
    assert perplexity["before"] == pytest.approx(math.exp(np.mean(surprises[0])), rel=1e-5)
    assert perplexity["after"] == pytest.approx(math.exp(np.mean(surprises[1])), rel=1e-5)
    low, high = kl["interval"]
    means = np.array([np.mean(part) for part in divergences])
    assert low < kl["mean"] < high
    assert high - low == pytest.approx(2 * 1.96 * means.std() / math.sqrt(24), rel=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_change_of_nothing_has_no_effect(
    tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype
) -> None:
    model = tiny.build_model("llama", dtype=dtype)
    rows = adapter_for(model, 0.3)
    same = Adapter(rows.before, rows.before, rows.out_features, "print")
    for unchanged in (adapter_for(model, 0), same):
        found = compare_neutral(model, tokenizer, unchanged.on, bootstrap_samples=20)
        kl, perplexity = found["kl"], found["perplexity"]
        assert (kl["mean"], kl["max"], kl["interval"]) == (0, 0, [0, 0])
        assert kl["same_top_token"] == 1
        assert perplexity["before"] == perplexity["after"]


def test_the_model_is_left_as_it_was(llama: Llama) -> None:
    model, tokenizer = llama
    change = adapter_for(model, 0.3).on
    before = weights(model)
    compare_neutral(model, tokenizer, change, bootstrap_samples=20)
    assert all(map(torch.equal, before, weights(model)))

    def stop() -> None:
        with change(model):
            assert not all(map(torch.equal, before, weights(model)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert all(map(torch.equal, before, weights(model)))


@pytest.mark.parametrize("applied", [False, True])
def test_rows_are_put_back_as_they_were_found(llama: Llama, applied: bool) -> None:
    model, _ = llama
    adapter = adapter_for(model, 0.3)
    if applied:
        adapter.apply(model)
    before = weights(model)

    def stop() -> None:
        with rows_put_back(model, adapter):
            adapter.revert(model)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert all(map(torch.equal, before, weights(model)))


def test_a_text_longer_than_the_context_is_cut(llama: Llama) -> None:
    model, tokenizer = llama
    model.config.max_position_embeddings = 10
    found = compare_neutral(model, tokenizer, adapter_for(model, 0.3).on, bootstrap_samples=20)
    assert found["kl"]["tokens"] == 240


def answered(rights: str) -> list[Parametric]:
    """Answers that were judged right (+), wrong (-) or not clearly (?)."""
    verdicts = {"+": True, "-": False, "?": None}
    return [Parametric(Question("Who?", "I"), "I", verdicts[sign]) for sign in rights]


def test_the_change_of_free_answers_is_paired() -> None:
    found = accuracy_change(answered("++++---?--"), answered("+++-++-+-?"))
    assert (found["n"], found["before"], found["after"]) == (10, 0.4, 0.6)
    centre = (4 - 2) / 12  # three gained and one lost, each with one added
    reach = 1.959964 * math.sqrt(((4 + 2) / 12 - centre**2) / 12)
    assert found["change_interval"] == pytest.approx([centre - reach, centre + reach], rel=1e-5)
    cut = [replace(one, cut=True) for one in answered("+--")]
    assert accuracy_change(cut[:1] + answered("+--"), cut + answered("-"))["cut"] == [0.25, 0.75]
    same = accuracy_change(answered("+-" * 50), answered("+-" * 50))
    low, high = same["change_interval"]
    assert low == pytest.approx(-high)
    assert 0.02 < high < 0.04  # that none of 100 changed does not say that none ever will
    assert accuracy_change(answered("-"), answered("+"))["change_interval"][1] <= 1
