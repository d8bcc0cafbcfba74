"""The scored words are those of the instruction, whatever the tokenizer, template and question."""

from itertools import product
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.data.records import BinaryExample, Question
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.prompts.wordings import INSTRUCTIONS, VOCABULARIES

SIGNS = str.maketrans("Ġ▁", "  ")  # how the two styles of tokenizer write a space
SETUPS = list(product(("bytelevel", "metaspace"), (True, False), (True, False)))
EXAMPLE = BinaryExample("What is the capital of France?", True, "Paris")
TRAP = BinaryExample(
    "No doubt: Yes or No, True or False, Correct or Wrong?", False, "No", 'He said "Yes" and "No".'
)
FULL = {  # Table 12
    "nasa": "You are given a question and you MUST answer Yes or No.",
    "A": "You are asked a question that demands a clear Yes or No answer.",
    "B": "A question is posed to you, and you are obligated to answer either Yes or No.",
}
LLAMA_2 = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    "[INST] {{ message.content }} [/INST]{% else %} {{ message.content }} {{ eos_token }}"
    "{% endif %}{% endfor %}"
)
THINKING = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def build(
    style: str = "bytelevel", chat: bool = True, bos: bool = True, **how: Any
) -> PromptBuilder:
    tokenizer = tiny.build_tokenizer(style=style, bos=bos)  # type: ignore[arg-type]
    return PromptBuilder(tokenizer, chat=chat, **how)


def places(prompt: BinaryPrompt) -> tuple[int, int, int]:
    return prompt.positive_position, prompt.negative_position, prompt.first_row


def decode(builder: PromptBuilder, ids: tuple[int, ...]) -> str:
    return builder.tokenizer.decode(list(ids), skip_special_tokens=True)


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_the_places_are_those_of_the_instruction(
    style: str, chat: bool, bos: bool, vocabulary: str, instruction: str
) -> None:
    builder = build(style, chat, bos, vocabulary=vocabulary, instruction=instruction)
    words = builder.words
    sentence = FULL[instruction].replace("Yes", words.positive).replace("No", words.negative)
    head = f"system\n{tiny.SYSTEM_PROMPT}\nuser\n" if chat else ""
    for example, label in ((EXAMPLE, "Question:"), (TRAP, "Context:")):
        prompt = builder.binary(example)
        ids = prompt.token_ids
        for word, place in zip((words.positive, words.negative), places(prompt)[:2], strict=True):
            assert decode(builder, ids[place : place + 1]).strip() == word
            before = head + sentence[: sentence.index(word)]
            assert decode(builder, ids[:place]).strip() == before.strip()
        assert decode(builder, ids[: prompt.first_row]).strip() == head + sentence
        assert decode(builder, ids[prompt.first_row :]).strip().startswith(label)
        assert [i for i, token in enumerate(ids) if token == 1] == ([0] if bos else [])


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
def test_no_question_moves_the_places(style: str, chat: bool, bos: bool) -> None:
    builder = build(style, chat, bos)
    expected = places(builder.binary(EXAMPLE))
    whole = f"{FULL['nasa']} Question: {EXAMPLE.question} Is the answer Paris? Answer:"
    questions = ["No", "Yes or No?", "Yes/No", '"No"\n"Yes"', FULL["nasa"], whole, f"{whole} Yes"]
    questions += ["{positive} or {negative}", "Ünïcødé 北京 🙂 No", "<s> No <|im_end|>", "\0No"]
    for question in questions:
        for context in (None, question):
            prompt = builder.binary(BinaryExample(question, True, None, context))
            assert places(prompt) == expected, question
            assert question in prompt.text


@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
def test_the_words_of_a_system_prompt_are_not_scored(style: str) -> None:
    builder = build(style)
    template = tiny.CHAT_TEMPLATE.replace(tiny.SYSTEM_PROMPT, f"Yes or No. {FULL['nasa']}")
    builder.tokenizer.chat_template = template
    prompt = builder.binary(TRAP)
    head = decode(builder, prompt.token_ids[: prompt.negative_position])
    assert head.count("No") == 2
    assert head.endswith("user\nYou are given a question and you MUST answer Yes or")


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
def test_shots_carry_their_answers_and_leave_the_places(style: str, chat: bool, bos: bool) -> None:
    shots = [TRAP, BinaryExample("Is ice cold?", True)]
    plain, few = build(style, chat, bos), build(style, chat, bos, shots=shots)
    content = (
        f'{FULL["nasa"]} Context: He said "Yes" and "No". Question: {TRAP.question} '
        "Is the answer No? Answer: No\nQuestion: Is ice cold? Answer: Yes\n"
        "Question: What is the capital of France? Is the answer Paris? Answer:"
    )
    prompt = few.binary(EXAMPLE)
    assert (content in prompt.text) if chat else (prompt.text == content)
    assert places(prompt) == places(plain.binary(EXAMPLE))
    assert decode(few, prompt.token_ids[prompt.first_row :]).strip().startswith("Context: He")
    assert prompt.answers == plain.binary(EXAMPLE).answers


@pytest.mark.parametrize("instruction", FULL)
def test_prompt_1_is_worded_as_in_the_paper(instruction: str) -> None:
    builder = build(chat=False, instruction=instruction)
    verify = "Question: What is the capital of France? Is the answer Paris? Answer:"
    assert builder.binary(EXAMPLE).text == f"{FULL[instruction]} {verify}"
    as_it_is = BinaryExample("Is ice cold?", True, None, "Ice is frozen water.")
    text = f"{FULL[instruction]} Context: Ice is frozen water. Question: Is ice cold? Answer:"
    assert builder.binary(as_it_is).text == text


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
def test_prompt_2_is_worded_as_in_the_paper(style: str, chat: bool, bos: bool) -> None:
    builder = build(style, chat, bos)
    text = (
        "You MUST answer shortly the given question based on your knowledge. {}Question: {} Answer:"
    )
    for context, lead in ((None, ""), ("He said No.", "Context: He said No. ")):
        ids = builder.parametric(Question("Who wrote Hamlet?", "Shakespeare", context))
        expected = text.format(lead, "Who wrote Hamlet?")
        if chat:
            expected = f"system\n{tiny.SYSTEM_PROMPT}\nuser\n{expected}\nassistant\n"
        assert decode(builder, ids).strip() == expected.strip()
        assert [i for i, token in enumerate(ids) if token == 1] == ([0] if bos else [])


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_answers_hold_every_surface_form(
    style: str, chat: bool, bos: bool, vocabulary: str
) -> None:
    builder = build(style, chat, bos, vocabulary=vocabulary)
    answers, words = builder.binary(TRAP).answers, builder.words
    for word, ids in ((words.positive, answers.positive), (words.negative, answers.negative)):
        forms = [word, word.lower()] + [word.upper()] * (vocabulary != "correct/wrong")
        tokens = builder.tokenizer.convert_ids_to_tokens(list(ids))
        found = sorted(token.translate(SIGNS) for token in tokens)
        assert found == sorted([*forms, *(f" {form}" for form in forms)])
    assert not set(answers.positive) & set(answers.negative)
    assert answers.target in answers.positive
    target = builder.tokenizer.convert_ids_to_tokens(answers.target).translate(SIGNS)
    assert target == (words.positive if chat else f" {words.positive}")


def template_token(builder: PromptBuilder, prompt: BinaryPrompt) -> int:
    """What the template writes where the model answers: the first token of the turn with "Yes"."""
    content = prompt.text[prompt.text.index("You are given") : prompt.text.index("Answer:") + 7]
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes"}]
    text = builder.tokenizer.apply_chat_template(turns, tokenize=False)
    ids = builder.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tuple(ids[: len(prompt.token_ids)]) == prompt.token_ids
    return ids[len(prompt.token_ids)]


@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
@pytest.mark.parametrize(("template", "word"), [(tiny.CHAT_TEMPLATE, "Yes"), (LLAMA_2, " Yes")])
def test_the_target_is_how_the_template_itself_answers(
    style: str, template: str, word: str
) -> None:
    builder = build(style)
    builder.tokenizer.chat_template = template
    prompt = builder.binary(EXAMPLE)
    token = builder.tokenizer.convert_ids_to_tokens(prompt.answers.target)
    assert token.translate(SIGNS) == word
    assert prompt.answers.target == template_token(builder, prompt)


def test_a_thinking_model_does_not_think(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = THINKING
    prompt = PromptBuilder(tokenizer).binary(EXAMPLE)
    assert prompt.text.endswith("Answer:<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert tokenizer.convert_ids_to_tokens(prompt.answers.target) == "Yes"


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
def test_answers_do_not_depend_on_what_was_asked_before(style: str, chat: bool, bos: bool) -> None:
    builder = build(style, chat, bos)
    for question in ("Is ice cold?", "Is fire cold?", "/", "No"):
        example = BinaryExample(question, True)
        assert builder.binary(example) == build(style, chat, bos).binary(example)


def test_chat_is_used_where_there_is_a_template() -> None:
    with_template = PromptBuilder(tiny.build_tokenizer(chat_template=True))
    without = PromptBuilder(tiny.build_tokenizer(chat_template=False))
    assert "<|im_start|>" in with_template.binary(EXAMPLE).text
    assert without.binary(EXAMPLE).text == build(chat=False).binary(EXAMPLE).text
