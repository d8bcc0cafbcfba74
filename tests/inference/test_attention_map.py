"""The attention of a head is that of eager attention, and tokens are shown as text."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import reference
import tiny
from nasalign.data.records import BinaryExample
from nasalign.inference.attention_map import attention_map, readable_tokens
from nasalign.inference.scoring import score_prompts
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

HEADS = [(2, 3), (0, 1), (2, 0)]
EXAMPLES = [
    BinaryExample("Who wrote Hamlet?", True, "Shakespeare"),
    BinaryExample("Which currency is used in Japan, and since when?", False, "No, the yuan"),
]


def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [builder.binary(example) for example in EXAMPLES]


def test_equals_eager_attention(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    with reference.as_precise(model):
        maps = attention_map(model, prompts(tokenizer), HEADS)
    for prompt, heads in zip(prompts(tokenizer), maps, strict=True):
        weights = reference.attention_weights(model, torch.tensor(prompt.token_ids))
        for (layer, head), found in zip(HEADS, heads, strict=True):
            rows = weights[layer][head, prompt.first_row :]
            assert (found.layer, found.head) == (layer, head)
            torch.testing.assert_close(found.last, weights[layer][head, -1], atol=1e-10, rtol=1e-10)
            columns = (prompt.positive_position, prompt.negative_position)
            for column, attention in zip(columns, (found.positive, found.negative), strict=True):
                torch.testing.assert_close(attention, rows[:, column], atol=1e-10, rtol=1e-10)
            expected = reference.nas(weights[layer][head], *columns, prompt.first_row)
            assert found.nas == pytest.approx(expected, abs=1e-10)


def test_half_precision_gives_float32_and_the_nas_of_the_recorder(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = tiny.build_model("llama", dtype=torch.bfloat16)
    scores = score_prompts(model, prompts(tokenizer), batch_size=1)
    for index, heads in enumerate(attention_map(model, prompts(tokenizer), HEADS)):
        for found in heads:
            assert found.positive.dtype == torch.float32
            assert found.nas == float(scores.nas[index, found.layer, found.head])
    assert model.config._attn_implementation == "sdpa"


TEXTS = ("You are given a question and you MUST answer Yes or No.  Two spaces", "at the end é")
TEXTS += ("Wie heißt die Straße? 多少钱 Ω 🦊🦊 end", "a broken \N{REPLACEMENT CHARACTER} sign")


@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_readable_and_joined_are_the_text(style: str, text: str) -> None:
    tokenizer = tiny.build_tokenizer(style=style, bos=False)  # type: ignore[arg-type]
    ids = tokenizer(text)["input_ids"]
    tokens = readable_tokens(tokenizer, ids)
    assert len(tokens) == len(ids)
    assert "".join(tokens) == tokenizer.decode(ids) == text
    broken = [token for token in tokens if "\N{REPLACEMENT CHARACTER}" in token]
    assert len(broken) == text.count("\N{REPLACEMENT CHARACTER}")
    assert max(map(len, tokens)) <= 15


def test_a_character_stands_at_its_first_token() -> None:
    tokenizer = tiny.build_tokenizer(bos=False)
    ids = tokenizer("🦊no")["input_ids"]
    assert len(ids) > 4  # each byte of the fox is a token
    rest = readable_tokens(tokenizer, ids[4:])
    assert readable_tokens(tokenizer, ids) == ["🦊", "", "", "", *rest]
    assert readable_tokens(tokenizer, ids[:3]) == ["\N{REPLACEMENT CHARACTER}", "", ""]  # cut off


def test_special_tokens_are_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = prompts(tokenizer)[0]
    tokens = readable_tokens(tokenizer, prompt.token_ids)
    assert tokens[0] == "<s>"
    assert "<|im_start|>" in tokens
    assert tokens[prompt.positive_position].strip() == "Yes"
    assert tokens[prompt.negative_position].strip() == "No"
    assert "".join(tokens) == prompt.text
