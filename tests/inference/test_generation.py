"""Free answers are greedy, end with their first line, and come with their entropy."""

import re
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import architectures
import tiny
from cases import QUESTIONS
from nasalign.data.conversation import Conversation
from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.inference.forward import shares_exactly
from nasalign.inference.generation import FIRST_LINE, ModelChat, TokenIds, generate
from nasalign.prompts.builder import PromptBuilder

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
EXAMPLES = [BinaryExample(question, True, "thing") for question in QUESTIONS]


@torch.no_grad()
def step_by_step(model: PreTrainedModel, token_ids: tuple[int, ...], steps: int) -> list[int]:
    """The tokens of greatest logit, one after the other, without a cache."""
    ids = list(token_ids)
    while len(ids) < len(token_ids) + steps and ids[-1] != 2:  # the end of the sequence
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(token_ids) :]


def test_generation_is_greedy_and_free_of_special_tokens(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    # Gemma 2's own eager attention rounds a float64 mask to minus infinity.
    model = tiny.build_model(family, dtype=torch.float32 if family == "gemma2" else torch.float64)
    builder = PromptBuilder(tokenizer, chat=False)
    prompts = [builder.binary(example) for example in EXAMPLES]
    tokens = [step_by_step(model, prompt.token_ids, 6) for prompt in prompts]
    assert len({tuple(answer) for answer in tokens}) > 3
    model.generation_config.temperature = 0.7  # a checkpoint's own settings do not sample
    model.generation_config.do_sample = True
    model.generation_config.repetition_penalty = 0.05  # nor do they bend the probabilities
    answers = generate(model, tokenizer, prompts, 6, batch_size=3).texts
    texts = [tokenizer.decode(answer, skip_special_tokens=True) for answer in tokens]
    assert answers == [text.lstrip().partition("\n")[0].rstrip() for text in texts]


@pytest.mark.parametrize(("window", "shared"), [(512, True), (None, True), (40, False)])
def test_what_all_prompts_begin_with_runs_once(
    window: int | None, shared: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model("mistral", dtype=torch.float64)
    model.config.sliding_window = window
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    tokens = [step_by_step(model, prompt.token_ids, 4) for prompt in prompts]
    assert shares_exactly(model, prompts, 8)  # tried out once, before what is counted here
    sizes: list[torch.Size] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda module, inputs: sizes.append(inputs[0].shape)
    )
    answers = generate(model, tokenizer, prompts, 4, batch_size=7).texts
    assert (sizes[0][0] == 1) == shared
    assert sum(size[1] for size in sizes[: 1 + shared]) == max(len(p.token_ids) for p in prompts)
    texts = [tokenizer.decode(answer, skip_special_tokens=True) for answer in tokens]
    assert answers == [text.lstrip().partition("\n")[0].rstrip() for text in texts]


@pytest.mark.parametrize("name", ["qwen3_next", "granitemoehybrid"])
def test_a_recurrent_state_takes_no_padding_in(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = architectures.build(name, torch.float64)
    prompts = [PromptBuilder(tokenizer, chat=False).binary(example) for example in EXAMPLES]
    tokens = [step_by_step(model, prompt.token_ids, 4) for prompt in prompts]
    answers = generate(model, tokenizer, prompts, 4, batch_size=7, until=None).texts
    assert answers == [tokenizer.decode(one, skip_special_tokens=True).strip() for one in tokens]


def test_special_tokens_are_stripped_and_end_the_answer(llama: Llama) -> None:
    model, tokenizer = llama
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    end = [step_by_step(model, prompt.token_ids, 3)[2] for prompt in prompts]
    model.generation_config.eos_token_id = end[0]  # the third token of the first answer
    generated = generate(model, tokenizer, prompts, 6, batch_size=7, until=None)
    answers = generated.texts
    first = step_by_step(model, prompts[0].token_ids, 3)
    assert answers[0] == tokenizer.decode(first).strip()  # no padding after it
    six = [step_by_step(model, prompt.token_ids, 6) for prompt in prompts]
    whole = [(end[0] in tokens, cut) for tokens, cut in zip(six, generated.cut, strict=True)]
    assert (True, False) in whole
    assert (False, True) in whole
    assert (True, True) not in whole
    assert not any("<pad>" in answer or "<|im" in answer for answer in answers)


def test_the_entropy_is_that_of_the_first_token(llama: Llama) -> None:
    model, tokenizer = llama
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    done: list[int] = []
    generated = generate(model, tokenizer, prompts, 3, batch_size=4, progress=done.append)
    assert done == [4, 3]
    for prompt, entropy in zip(prompts, generated.entropies, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt.token_ids])).logits[0, -1].double()
        expected = torch.distributions.Categorical(logits=logits).entropy()
        assert entropy == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "until", "answer"),
    [
        ("\nword1 word2\nword3 word4 word5", FIRST_LINE.pattern, "word1 word2"),
        ("word1\nAnswer: No\nword3 word4", r"^Answer: No\n", "word1\nAnswer: No"),
        ("word1\nword2\n\nword3", None, "word1\nword2\n\nword3"),
    ],
)
def test_an_answer_ends_where_it_may(
    llama: Llama, text: str, until: str | None, answer: str
) -> None:
    model, tokenizer = llama
    script = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(script) == text, "the tiny tokenizer keeps line ends"
    left = list(script)

    def scripted(module: object, inputs: object, output: Any) -> Any:
        """Whatever was asked, the next token is that of the script."""
        output.logits[:] = -100.0
        output.logits[:, -1, left.pop(0)] = 100.0
        return output

    model.register_forward_hook(scripted)
    end = re.compile(until, re.MULTILINE) if until else None
    generated = generate(
        model, tokenizer, [TokenIds((5, 6, 7)), TokenIds((8, 9))], len(script), until=end
    )
    assert generated.texts == [answer] * 2
    assert bool(left) == bool(until)  # it stopped there
    assert generated.cut == [until is None] * 2


def test_an_answer_beyond_the_context_is_named(llama: Llama) -> None:
    model, tokenizer = llama
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    limit = max(len(prompt.token_ids) for prompt in prompts)
    model.config.max_position_embeddings = limit
    length = len(prompts[0].token_ids) + limit
    with pytest.raises(PromptError, match=f"has {length} tokens.* of {limit}"):
        generate(model, tokenizer, prompts[:1], limit)


@pytest.mark.parametrize("template", [True, False, "no system message"])
def test_a_model_in_memory_can_be_asked(llama: Llama, template: bool | str) -> None:
    model, tokenizer = llama
    if template is False:
        tokenizer.chat_template = None
    elif template is not True:
        refusal = "{{ raise_exception('no system role') if messages[0].role == 'system' }}"
        tokenizer.chat_template = refusal + tokenizer.chat_template
    conversations = [Conversation("Be short.", "Who?"), Conversation("Be short.", "Why me?")]
    chat = ModelChat(model, tokenizer, 4, batch_size=2)
    answers = chat.complete(conversations)
    assert len(answers) == 2
    assert answers == chat.complete(conversations)
    for conversation in conversations:
        shown = tokenizer.decode(chat._tokens(conversation))
        assert "Be short." in shown
        assert conversation.user in shown
        assert ("<|im_start|>" in shown) == (template is not False)


@pytest.mark.parametrize("padding", ["none", "beyond the embedding"])
def test_rows_are_filled_up_whatever_the_tokenizer_has(llama: Llama, padding: str) -> None:
    model, tokenizer = llama
    builder = PromptBuilder(tokenizer)
    prompts = [builder.binary(example) for example in EXAMPLES]
    expected = generate(model, tokenizer, prompts, 4).texts
    if padding == "none":
        tokenizer.pad_token = None
    else:
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
        assert tokenizer.pad_token_id >= model.get_input_embeddings().weight.shape[0]
    assert generate(model, tokenizer, prompts, 4).texts == expected
