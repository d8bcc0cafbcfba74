"""A prompt whose answer words cannot be located is refused, with the reason."""

import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import DataError, PromptError
from nasalign.prompts import builder as prompts
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.scenarios import in_scenario

EXAMPLE = BinaryExample("What is the capital of France?", True, "Paris")


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("instruction", "word", "token"),
    [
        ('"{positive}" or "{negative}" is your answer.', "Yes", '"Yes'),
        ("You MUST answer {positive}/{negative}.", "No", "/No"),
    ],
)
def test_a_word_glued_to_a_sign_is_refused(
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    chat: bool,
    instruction: str,
    word: str,
    token: str,
) -> None:
    monkeypatch.setitem(prompts.INSTRUCTIONS, "glued", instruction)
    builder = PromptBuilder(tokenizer, instruction="glued", chat=chat)
    with pytest.raises(PromptError, match=rf"'{word}' has no token of its own.* '{token}' there"):
        builder.binary(EXAMPLE)


def test_a_sign_with_a_token_of_its_own_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prompts.INSTRUCTIONS, "signs", 'Say "{positive}"/"{negative}" now.')
    tokenizer = tiny.build_tokenizer(style="metaspace")
    prompt = PromptBuilder(tokenizer, instruction="signs").binary(EXAMPLE)
    ids = prompt.token_ids
    assert tokenizer.decode([ids[prompt.positive_position]]) == "Yes"
    assert tokenizer.decode([ids[prompt.negative_position]]) == "No"


@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
@pytest.mark.parametrize("chat", [True, False])
def test_a_word_of_several_tokens_counts_by_its_first(style: str, chat: bool) -> None:
    tokenizer = tiny.build_tokenizer(style=style)  # type: ignore[arg-type]
    prompt = PromptBuilder(tokenizer, "Affirmative/Negative", chat=chat).binary(EXAMPLE)
    ids = list(prompt.token_ids)
    for word, place in (
        ("Affirmative", prompt.positive_position),
        ("Negative", prompt.negative_position),
    ):
        first = tokenizer.decode([ids[place]]).strip()
        assert 0 < len(first) < len(word)
        assert tokenizer.decode(ids[place : place + 12]).strip().startswith(word)
    target = tokenizer.decode([prompt.answers.target]).strip()
    assert 0 < len(target) < len("Affirmative")
    assert "Affirmative".startswith(target)
    assert prompt.answers.target in prompt.answers.positive
    assert not set(prompt.answers.positive) & set(prompt.answers.negative)


def test_words_that_begin_alike_cannot_be_told_apart(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    builder = PromptBuilder(tokenizer, vocabulary="Yes/Yesno", chat=False)
    with pytest.raises(PromptError, match=r"'Yes' and 'Yesno' cannot be told apart"):
        builder.binary(EXAMPLE)


def test_a_slow_tokenizer_is_refused_by_name() -> None:
    with pytest.raises(PromptError, match=r"ByT5Tokenizer gives no character offsets"):
        PromptBuilder(ByT5Tokenizer())


def test_chat_needs_a_template() -> None:
    with pytest.raises(PromptError, match=r"no chat template; set chat=false"):
        PromptBuilder(tiny.build_tokenizer(chat_template=False), chat=True)


def test_an_unknown_instruction_is_named_with_the_known_ones(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(PromptError, match=r"no instruction 'maybe'; choose one of nasa, A, B"):
        PromptBuilder(tokenizer, instruction="maybe")


CONTENT = "{{ messages[0].content }}"


@pytest.mark.parametrize(
    ("template", "question"),
    [
        (CONTENT.replace("}}", "| upper }}"), "Is ice cold?"),
        (CONTENT.replace("}}", "| e }}"), "Is 1 < 2?"),
        (CONTENT.replace("}}", "| tojson }}"), 'Is "ice" cold?'),
        ("{{ bos_token }}", "Is ice cold?"),
    ],
)
def test_a_template_that_rewrites_the_message_is_refused(
    tokenizer: PreTrainedTokenizerFast, template: str, question: str
) -> None:
    tokenizer.chat_template = template
    with pytest.raises(PromptError, match=r"The chat template rewrites the message"):
        PromptBuilder(tokenizer).binary(BinaryExample(question, True))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
        ("{{ absent.content }}", "absent"),
        ("{% for message in messages %}", "end of template"),
        ("{{ messages[0].content + 1 }}", "str"),
        ({"tool_use": CONTENT}, "default"),
    ],
)
def test_a_template_that_raises_is_named(
    tokenizer: PreTrainedTokenizerFast, template: str | dict[str, str], reason: str
) -> None:
    tokenizer.chat_template = template
    with pytest.raises(PromptError, match=rf"The chat template fails: .*{reason}.* chat=false"):
        PromptBuilder(tokenizer).binary(EXAMPLE)


def test_an_example_without_a_label_can_be_asked_but_not_shown(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    unknown = BinaryExample(EXAMPLE.question, None, EXAMPLE.answer)
    asked = PromptBuilder(tokenizer).binary(unknown)
    assert asked == PromptBuilder(tokenizer).binary(EXAMPLE)
    (negated,) = in_scenario([unknown], "negated")
    assert (negated.label, negated.negated) == (None, True)
    with pytest.raises(DataError, match="has no label"):
        PromptBuilder(tokenizer, shots=[unknown]).binary(EXAMPLE)
