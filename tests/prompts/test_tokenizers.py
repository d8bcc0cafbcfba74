"""Tokenizers as people have them: with a token at the end of each text, or without one before."""

import pytest
from tokenizers import processors

import tiny
from nasalign.data.records import BinaryExample, Question
from nasalign.prompts.builder import PromptBuilder

EXAMPLE = BinaryExample("Is ice cold?", True)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("chat", [True, False])
def test_a_token_at_the_end_of_a_text_is_left_out(bos: bool, chat: bool) -> None:
    plain, ending = (tiny.build_tokenizer(bos=bos) for _ in range(2))
    end = ending.eos_token
    parts = ["<s>", "$A", end] if bos else ["$A", end]
    marks = [(mark, ending.convert_tokens_to_ids(mark)) for mark in parts if mark != "$A"]
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(parts), special_tokens=marks
    )
    assert ending("Ice")["input_ids"][-1] == ending.eos_token_id
    mine, other = (PromptBuilder(one, chat=chat) for one in (plain, ending))
    assert other.binary(EXAMPLE) == mine.binary(EXAMPLE)
    question = Question("What is cold?", "ice")
    assert other.parametric(question) == mine.parametric(question)
    if not chat:
        assert other.binary(EXAMPLE).token_ids[-1] != ending.eos_token_id
