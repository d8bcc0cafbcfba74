"""The reference itself, against values worked out by hand, and the tiny models it is used on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import reference
import tiny

PROMPT = (
    "You are given a question and you MUST answer Yes or No. "
    "Question: What is the capital of France? Is the answer No or Paris? Answer:"
)


def positions(tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, int, int, int]:
    """Token ids [T] of the prompt, and where Yes, No and the first token after them stand."""
    encoding = tokenizer(PROMPT)
    words = [tokenizer.decode(token).strip() for token in encoding.input_ids]
    first_row = words.index(".") + 1
    return torch.tensor(encoding.input_ids), words.index("Yes"), words.index("No"), first_row


def test_nas_by_hand() -> None:
    weights = torch.tensor(
        [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.2, 0.4, 0.4]], dtype=torch.float64
    )
    # Row 0 has a masked token. Row 1: (0.25 + 0.75) ln 3. Row 2: (0.2 + 0.4) ln 2.
    expected = math.log(3) + 0.6 * math.log(2)
    assert reference.nas(weights, yes=0, no=1, first_row=0) == pytest.approx(expected, rel=1e-15)
    assert reference.nas(weights, yes=1, no=0, first_row=1) == pytest.approx(-expected, rel=1e-15)
    assert reference.nas(weights, yes=0, no=1, first_row=2) == pytest.approx(0.6 * math.log(2))
    assert reference.nas(weights, yes=0, no=1, first_row=3) == 0.0


def test_averages_and_tau_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0]], [[3.0, -6.0]]])  # two samples, one layer, two heads
    assert reference.single_head_nas(values).tolist() == [[2.0, -2.0]]
    assert reference.model_nas(values) == 0.0
    assert reference.tau(values) == -3.0  # the samples have 3 and -3
    assert reference.tau(values[:0]) == -math.inf


def test_selection_by_hand() -> None:
    # Ten samples of four heads, all in layer 0. The two highest are heads 0 and 1 in nine samples,
    # heads 1 and 2 in the last.
    usual, other = [5.0, 4.0, 1.0, 0.0], [0.0, 9.0, 8.0, 1.0]
    values = torch.tensor([[usual]] * 9 + [[other]])
    assert reference.select_heads(values, k=2, n=9) == [(0, 0), (0, 1)]  # means 4.5 and 4.5
    assert reference.select_heads(values, k=2, n=9, consistency=1.0) == [(0, 1)]
    assert reference.select_heads(values, k=2, n=9, consistency=0.1) == [(0, 0), (0, 1), (0, 2)]
    assert reference.select_heads(values, k=2, n=1) == [(0, 0)]
    assert reference.select_heads(torch.zeros(3, 2, 2), k=3, n=2) == [(0, 0), (0, 1)]


class Script:
    """A model whose alpha and beta after each epoch are given: a series for each head."""

    def __init__(self, start: float, series: dict[reference.Head, list[tuple[float, float]]]):
        self.start, self.series, self.done = start, series, []

    def save(self) -> list[reference.Head]:
        return list(self.done)

    def restore(self, done: list[reference.Head]) -> None:
        self.done = done

    def nas_head(self, head: reference.Head) -> float:
        epochs = self.done.count(head)
        return self.series[head][epochs - 1][0] if epochs else self.start

    def nas_model(self) -> float:
        last = self.done[-1] if self.done else None
        return self.series[last][self.done.count(last) - 1][1] if last else self.start

    def run(self, tau: float = -math.inf, rho: float = 0.5, max_epochs: int = 3) -> list[str]:
        """Run Algorithm 1; each event as its first letter, and "e" for an epoch."""
        events = reference.algorithm_1(
            list(self.series),
            lambda head: self.done.append(head),
            self.nas_head,
            self.nas_model,
            self.save,
            self.restore,
            tau,
            rho,
            max_epochs,
        )
        return [event[0][0] for event in events]


A, B = (0, 0), (1, 0)


@pytest.mark.parametrize(
    ("series", "tau", "events", "kept"),
    [
        ({A: [(9, 9), (8, 8), (7, 7)]}, -math.inf, "eee", 3),  # all three epochs
        ({A: [(9, 9), (9, 9), (9, 9)]}, -math.inf, "eee", 3),  # equal values are no increase
        ({A: [(8, 8), (9, 8)]}, -math.inf, "ees", 2),  # alpha rose, yet is below the start: kept
        ({A: [(8, 8), (8, 9)]}, -math.inf, "ees", 2),  # beta rose
        ({A: [(0.4, 8)]}, -math.inf, "es", 1),  # alpha below rho
        ({A: [(0.5, 8), (0.5, 8), (0.5, 8)]}, -math.inf, "eee", 3),  # at rho it goes on
        ({A: [(8, 8), (11, 8)]}, -math.inf, "eesc", 0),  # alpha above the start: cancelled
        ({A: [(9, 11), (9, 10.5), (9, 10.2)]}, -math.inf, "eeec", 0),  # beta above the start
        ({A: [(8, 8), (9, 8)], B: [(0.1, 7)]}, -math.inf, "eeses", 3),  # the next head
        ({A: [(9, 4), (8, 3), (7, 2)], B: []}, 5.0, "eeeh", 3),  # halts after the head's epochs
        ({A: [(9, 9), (9, 7), (9, 5)], B: [(0.1, 4)]}, 5.0, "eeeesh", 4),  # beta = tau goes on
        ({A: [(8, 4), (11, 4)], B: []}, 5.0, "eesch", 0),  # cancelled, and halted all the same
    ],
)
def test_algorithm_1_scripted(
    series: dict[reference.Head, list[tuple[float, float]]], tau: float, events: str, kept: int
) -> None:
    script = Script(start=10.0, series=series)
    assert "".join(script.run(tau=tau)) == events
    assert len(script.done) == kept


def test_evaluate_by_hand() -> None:
    verdicts = ["positive", "positive", "negative", "negative", "invalid"]
    scores = reference.evaluate(
        verdicts, [True, False, True, False, True], [0.95, 0.91, 0.59, 0.5, 0.0]
    )
    assert scores["accuracy"] == pytest.approx(2 / 5)
    assert scores["precision"] == scores["recall"] == scores["f1"] == 0.5
    assert scores["invalid_rate"] == pytest.approx(1 / 5)
    # One hit in each bin: |1 - (0.95 + 0.91)| / 4 + |1 - (0.59 + 0.5)| / 4
    assert scores["ece"] == pytest.approx((0.86 + 0.09) / 4)
    nothing = reference.evaluate(["invalid"], [True], [0.0])
    assert nothing == dict.fromkeys(nothing, 0.0) | {"invalid_rate": 1.0}


def test_family_builds_and_attends(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    implementation = model.config._attn_implementation
    input_ids, yes, no, first_row = positions(tokenizer)
    layers = reference.attention_weights(model, input_ids)
    assert model.config._attn_implementation == implementation
    assert [layer.shape for layer in layers] == [(4, len(input_ids), len(input_ids))] * 3

    sums = torch.stack(layers).sum(-1)  # [L, H, T]
    if family == "gpt_oss":
        assert (sums < 1).all()  # the rest goes to the sink
    else:  # to 1e-12: a softmax in float32 would leave 1e-7
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)
    masked = [bool((layer[:, -1] == 0).any()) for layer in layers]
    windows = {"full_attention": False, "sliding_attention": True}
    kinds = getattr(model.config, "layer_types", None)
    expected = [windows[kind] for kind in kinds] if kinds else [family == "mistral"] * 3
    assert masked == expected  # the sliding windows bite at this length

    values = reference.nas_of_sample(model, input_ids, yes, no, first_row)
    assert values.shape == (3, 4)
    assert bool(values.isfinite().all())
    assert values.abs().max() > 0.05  # far from uniform


def test_models_depend_on_the_seed_alone() -> None:
    def weights(model: PreTrainedModel) -> Tensor:
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    state = torch.get_rng_state()
    first, same, other = (weights(tiny.build_model("llama", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
def test_tokenizer(style: str) -> None:
    tokenizer = tiny.build_tokenizer(style=style)
    for word in tiny.CAPITALISED + tiny.LOWER + tiny.UPPER:
        for text in (word, " " + word):
            assert len(tokenizer(text, add_special_tokens=False).input_ids) == 1, text
    encoding = tokenizer(PROMPT, return_offsets_mapping=True)
    spans = [PROMPT[start:end].strip() for start, end in encoding.offset_mapping]
    words = [tokenizer.decode(token).strip() for token in encoding.input_ids]
    for word, times in (("Yes", 1), ("No", 2), ("answer", 2)):
        found = [index for index, other in enumerate(words) if other == word]
        assert [spans[index] for index in found] == [word] * times

    conversation = [{"role": "user", "content": PROMPT}]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<s><|im_start|>system\n" + tiny.SYSTEM_PROMPT)
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(text).input_ids[:3] == [1, 1, 3]  # BOS twice, as it must not be done
    assert tokenizer(text, add_special_tokens=False).input_ids[:2] == [1, 3]

    plain = tiny.build_tokenizer(style=style, bos=False, chat_template=False)
    assert plain.bos_token is None
    assert plain.chat_template is None
    assert plain(PROMPT).input_ids == encoding.input_ids[1:]
