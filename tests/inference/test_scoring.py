"""Scoring in batches says what the plain model says to each prompt alone."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import reference
import tiny
from cases import QUESTIONS
from nasalign.config import Decoder, NasRows, Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, PromptError
from nasalign.inference import scoring
from nasalign.inference.generation import Generated
from nasalign.inference.scoring import score, score_as, score_prompts
from nasalign.inference.verdicts import likeliest, parse_verdict
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.wordings import VOCABULARIES

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
EXAMPLES = [
    BinaryExample(question, number % 2 == 0, answer)
    for number, (question, answer) in enumerate(
        zip(QUESTIONS, ("Shakespeare", "Asia", "8", None, "Au", "1945", "Rome"), strict=True)
    )
]


@torch.no_grad()
def alone(model: PreTrainedModel, token_ids: tuple[int, ...]) -> torch.Tensor:
    """The model's probabilities [vocabulary] after one unpadded prompt."""
    logits: torch.Tensor = model(torch.tensor([token_ids])).logits[0, -1]
    return logits.float().softmax(dim=-1)


def test_probabilities_and_verdicts_are_those_of_each_prompt_alone(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """NAS and logits of a batch are in test_forward.py, for every family."""
    model = tiny.build_model("llama", dtype=torch.float64)
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    assert len({len(prompt.token_ids) for prompt in prompts}) > 4
    scores = score(model, tokenizer, EXAMPLES, batch_size=3)
    for index, prompt in enumerate(prompts):
        probabilities = alone(model, prompt.token_ids)
        positive = sum(float(probabilities[token]) for token in prompt.answers.positive)
        negative = sum(float(probabilities[token]) for token in prompt.answers.negative)
        assert float(scores.p_positive[index]) == pytest.approx(positive, rel=1e-5)
        assert float(scores.p_negative[index]) == pytest.approx(negative, rel=1e-5)
        assert scores.verdicts[index] == likeliest(positive, negative)
    assert scores.answers is None
    assert scores.nas.dtype == torch.float64


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("rows", "before"), [("after_instruction", 0), ("from_instruction_end", 1)]
)
def test_the_sum_of_eq_1_begins_where_the_setting_says(
    rows: NasRows, before: int, chat: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    """L_I, the length of the instruction with all before it, is counted by the tokenizer alone."""
    model = tiny.build_model("qwen2", dtype=torch.float64)
    settings = Settings(nas_rows=rows, chat=chat)
    with reference.as_precise(model):
        found = score_as(model, tokenizer, EXAMPLES, settings).nas
    for example, nas in zip(EXAMPLES, found, strict=True):
        prompt = PromptBuilder(tokenizer, chat=chat).binary(example)
        head = prompt.text[: prompt.text.index("Yes or No.") + len("Yes or No.")]
        length = len(tokenizer(head, add_special_tokens=not chat).input_ids)
        expected = reference.nas_of_sample(
            model,
            torch.tensor(prompt.token_ids),
            prompt.positive_position,
            prompt.negative_position,
            length - before,
        )
        torch.testing.assert_close(nas, expected, atol=1e-10, rtol=0)


def test_without_recording_there_is_no_nas_and_the_same_probabilities(llama: Llama) -> None:
    model, tokenizer = llama
    with_nas = score(model, tokenizer, EXAMPLES, batch_size=3)
    without = score(model, tokenizer, EXAMPLES, batch_size=3, record=False)
    assert with_nas.nas.shape == (len(EXAMPLES), 3, 4)
    assert without.nas.shape == (len(EXAMPLES), 0, 0)
    assert torch.equal(with_nas.p_positive, without.p_positive)
    assert torch.equal(with_nas.p_negative, without.p_negative)
    assert with_nas.verdicts == without.verdicts


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes", "positive"),
        (" Yes", "positive"),
        ("yes.", "positive"),
        ("**Yes**", "positive"),
        ("YES!", "positive"),
        ("Yes, and no doubt about it", "positive"),
        ("Yes and No", "positive"),  # it begins with a verdict
        ("No", "negative"),
        ("\n\nno, it is", "negative"),
        ("The answer is No", "negative"),
        ("The answer is **Yes**.", "positive"),
        ("It may be Yes or No", "invalid"),
        ("", "invalid"),
        (" ...", "invalid"),
        ("Nothing", "invalid"),
        ("Not known", "invalid"),
        ("Yesterday", "invalid"),
        ("There is no answer", "invalid"),  # a word in the middle counts as written only
        ("True", "invalid"),
    ],
)
def test_verdicts_of_yes_and_no(answer: str, verdict: str) -> None:
    assert parse_verdict(answer, VOCABULARIES["yes/no"]) == verdict


@pytest.mark.parametrize(
    ("answer", "vocabulary", "verdict"),
    [
        ("true", "true/false", "positive"),
        ("It is False.", "true/false", "negative"),
        ("Yes", "true/false", "invalid"),
        ("Truely", "true/false", "invalid"),
        ("correct.", "correct/wrong", "positive"),
        ("That is Wrong", "correct/wrong", "negative"),
        ("Incorrect", "correct/wrong", "invalid"),
    ],
)
def test_verdicts_of_other_words(answer: str, vocabulary: str, verdict: str) -> None:
    assert parse_verdict(answer, VOCABULARIES[vocabulary]) == verdict


def test_the_generating_decoder_takes_its_verdicts_from_the_texts(
    llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = llama
    answers = ["Yes", "No", "The answer is Yes.", "Nothing", "no", "", "yes"]
    generated = Generated(answers, [0.0] * 7, [False] * 7)
    monkeypatch.setattr(scoring, "generate", lambda *args, **options: generated)
    scores = score(model, tokenizer, EXAMPLES, decoder="generate")
    assert scores.answers == answers
    said = "positive negative positive invalid negative invalid positive"
    assert scores.verdicts == said.split()
    plain = score(model, tokenizer, EXAMPLES)
    assert torch.equal(scores.nas, plain.nas)
    assert torch.equal(scores.p_positive, plain.p_positive)


@pytest.mark.parametrize("decoder", ["logits", "generate"])
def test_a_third_answer_is_weighed_and_read(
    decoder: Decoder, llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = llama
    answers = ["Yes", "No", "I don't know", "", "no", "I do not know.", "yes"]
    generated = Generated(answers, [0.0] * 7, [False] * 7)
    monkeypatch.setattr(scoring, "generate", lambda *args, **options: generated)
    prompts = [PromptBuilder(tokenizer, scenario="unsure").binary(example) for example in EXAMPLES]
    scores = score(model, tokenizer, EXAMPLES, scenario="unsure", decoder=decoder, batch_size=3)
    assert scores.p_unsure is not None
    for index, prompt in enumerate(prompts):
        probabilities = alone(model, prompt.token_ids)
        expected = sum(float(probabilities[token]) for token in prompt.answers.unsure)
        assert float(scores.p_unsure[index]) == pytest.approx(expected, rel=1e-4)
    if decoder == "generate":
        assert [place for place, said in enumerate(scores.verdicts) if said == "unsure"] == [2, 5]
    assert score(model, tokenizer, EXAMPLES, decoder=decoder).p_unsure is None


def test_a_chain_of_thought_is_written_out_and_read_at_its_end(
    llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = llama
    asked = {}
    texts = ["No doubt.\nAnswer: Yes", "Answer: No", "No country", "", "Yes.", "...", "x\nno"]

    def generate(model: object, tokenizer: object, prompts: list, tokens: int, **options: object):
        asked.update(options, tokens=tokens, text=prompts[0].text)
        return Generated(texts, [0.0] * 7, [False] * 7)

    monkeypatch.setattr(scoring, "generate", generate)
    done: list[int] = []
    how = {"scenario": "cot", "decoder": "generate", "reasoning_tokens": 40}
    scores = score(model, tokenizer, EXAMPLES, **how, progress=done.append)
    said = "positive negative invalid invalid positive invalid negative"
    assert scores.verdicts == said.split()
    assert scores.answers == texts
    assert asked["tokens"] == 40
    assert asked["progress"] is not None
    assert not done  # the bar is of the reasoning
    prompt = PromptBuilder(tokenizer, scenario="cot").binary(EXAMPLES[0])
    assert asked["text"] == prompt.text
    of_prompt = score_prompts(model, [prompt])
    torch.testing.assert_close(scores.nas[:1], of_prompt.nas, atol=1e-4, rtol=1e-4)
    with pytest.raises(NasAlignError, match="with the scenario cot, take the decoder generate"):
        score(model, tokenizer, EXAMPLES, scenario="cot")


def test_a_prompt_beyond_the_context_is_named(llama: Llama) -> None:
    model, tokenizer = llama
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    lengths = [len(prompt.token_ids) for prompt in prompts]
    model.config.max_position_embeddings = max(lengths)
    score(model, tokenizer, EXAMPLES, record=False)  # just fits
    model.config.max_position_embeddings = max(lengths) - 1
    number, limit = lengths.index(max(lengths)) + 1, max(lengths) - 1
    expected = f"Prompt {number} of 7 has {limit + 1} tokens.* context of {limit}"
    with pytest.raises(PromptError, match=expected):
        score(model, tokenizer, EXAMPLES)


def test_progress_adds_up(llama: Llama) -> None:
    model, tokenizer = llama
    done: list[int] = []
    score(model, tokenizer, EXAMPLES, batch_size=3, progress=done.append)
    assert done == [3, 3, 1]
