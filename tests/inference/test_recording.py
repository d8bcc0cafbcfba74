"""NAS of any text: where the words and the rows are, and that the figures are the paper's."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import nasalign
import reference
import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.inference.recording import record_nas
from nasalign.prompts.builder import PromptBuilder

EXAMPLES = [
    BinaryExample("What is the capital of France?", True, "Paris"),
    BinaryExample("Is there No doubt, Yes?", False, "No. Yes or No"),
]


@pytest.mark.parametrize("chat", [True, False])
def test_a_rendered_prompt_has_the_figures_of_score(
    chat: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    builder = PromptBuilder(tokenizer, chat=chat)
    prompts = [builder.binary(example) for example in EXAMPLES]
    with record_nas(model, tokenizer) as recorder:
        nas = recorder.score([prompt.text for prompt in prompts])
    assert torch.equal(nas, nasalign.score(model, tokenizer, EXAMPLES, chat=chat).nas)
    for prompt, own in zip(prompts, nas, strict=True):
        places = (prompt.positive_position, prompt.negative_position, prompt.first_row)
        expected = reference.nas_of_sample(model, torch.tensor(prompt.token_ids), *places)
        torch.testing.assert_close(own, expected, atol=1e-10, rtol=1e-10)


def located(
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    places: tuple[int, int] | None = None,
    start: int | None = None,
) -> list[str]:
    """The tokens at the two words and at the first row."""
    with record_nas(tiny.build_model("llama"), tokenizer) as recorder:
        one = recorder._marked(1, text, places, start)
        positions = None if places is None else [places]
        assert recorder.score([text], start, positions=positions).abs().max() > 0
    found = (one.positive_position, one.negative_position, one.first_row)
    return [tokenizer.decode(one.token_ids[place]) for place in found]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Answer No or Yes. Question: one?", " Question"),
        ("What is Paris? Answer Yes or No: is it? Paris", " Paris"),  # not the first sentence
        ("Nobody knows. Yes or No, Noted\nAnswer: Yes", "Answer"),  # "No" in other words is none
        ("Yes or No! No.", " No"),
    ],
)
def test_the_first_words_and_the_row_after_their_sentence(
    text: str, first: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    yes, no, row = located(tokenizer, text)
    assert (yes.strip(), no.strip()) == ("Yes", "No")
    assert first.strip().startswith(row.strip())


def test_the_caller_says_where(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Yes. No. Answer Yes or No and No. Question: who?"
    last = text.index("Yes or"), text.index("No.", 20)
    assert located(tokenizer, text, places=last)[2].strip() == "Question"
    assert located(tokenizer, "Yes. No. Question: who?", start=9)[2].strip() == "Question"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Answer Yes. Nobody knows.", "The word 'No' does not stand in text 1"),
        ("Answer yes or No. Question", "The word 'Yes' does not stand in text 1"),
        ("Yes is a word. So is No. Question", "'No' stands 0 times in the sentence"),
        ("Answer Yes or No, No. Question", "'No' stands 2 times in the sentence"),
        ("Answer Yes or No.", "no token follows the instruction"),
        ("Answer Yes or No", "no token follows the instruction"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(
    text: str, sentence: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model("llama")
    with record_nas(model, tokenizer) as recorder, pytest.raises(PromptError, match=sentence):
        recorder.score([text])


def test_the_model_is_itself_again_after_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.build_model("llama")
    before = model.config._attn_implementation
    with pytest.raises(PromptError), record_nas(model, tokenizer) as recorder:
        recorder.score(["none"])
    assert model.config._attn_implementation == before
    with pytest.raises(RuntimeError, match="has ended"):
        recorder.score(["Answer Yes or No. Question"])
