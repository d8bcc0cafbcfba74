"""A prompt ends where the content of an answer begins, whatever the chat template writes before."""

from datetime import date

import pytest

import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.chat_template import ChatTemplate
from nasalign.prompts.user_template import PromptTemplate

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
BEGIN = "{% if add_generation_prompt %}<assistant>{% endif %}"
ENDINGS = {  # template, what stands between the user's turn and the content, white space after it
    "nothing more": (TURNS + BEGIN, "<assistant>", ""),
    "a channel": (
        "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% else %}"
        "<a><ch>final<body>{{ m.content }}</a>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}",
        "<a><ch>final<body>",
        "",
    ),
    "an empty block in a past turn": (
        "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% else %}"
        "<a>\n<think></think>\n{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}",
        "<a>\n<think></think>\n",
        "",
    ),
    "an empty block in the prompt": (
        TURNS + "{% if add_generation_prompt %}<assistant><think>\n\n</think>\n\n{% endif %}",
        "<assistant><think>\n\n</think>\n\n",
        "",
    ),
    "an open block": (
        TURNS + "{% if add_generation_prompt %}<assistant><think>\n{% endif %}",
        "<assistant><think>\n\n</think>\n\n",
        "",
    ),
    "an open block in place of what a past turn has": (
        TURNS + "{% if add_generation_prompt %}[reason]{% endif %}",
        "[reason]\n[/reason]\n\n",
        "",
    ),
    "an open block of square brackets": (
        TURNS + "{% if add_generation_prompt %}<assistant>[THINK]{% endif %}",
        "<assistant>[THINK]\n[/THINK]\n\n",
        "",
    ),
    "an open block of a start": (
        TURNS + "{% if add_generation_prompt %}<assistant><|START_THINKING|>{% endif %}",
        "<assistant><|START_THINKING|>\n<|END_THINKING|>\n\n",
        "",
    ),
    "an open block that the template closes in its own way": (
        "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% else %}<a>"
        "{% if m.reasoning_content %}<reason>{{ m.reasoning_content }}<done/><say>{% endif %}"
        "{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<a><reason>{% endif %}",
        "<a><reason><done/><say>",
        "",
    ),
    "an open block without a past turn": (
        "{% if messages[-1].role != 'user' %}{{ raise_exception('no answers') }}{% endif %}"
        "<u>{{ messages[0].content }}</u><a>\u25c1think\u25b7",
        "<a>\u25c1think\u25b7\n\u25c1/think\u25b7\n\n",
        "",
    ),
    "another channel than in a past turn": (
        "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% else %}"
        "<a>final:{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<a>analysis:{% endif %}",
        "<a>final:",
        "",
    ),
    "a space": (
        "{% for m in messages %}{% if m.role == 'user' %}[u] {{ m.content }} [/u]{% else %}"
        " {{ m.content }} </s>{% endif %}{% endfor %}",
        " [/u]",
        " ",
    ),
}


def template(text: str, today: str | None = None) -> ChatTemplate:
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = text
    return ChatTemplate(tokenizer, today)


@pytest.mark.parametrize("kind", ENDINGS)
def test_the_prompt_ends_where_the_content_begins(kind: str) -> None:
    text, ending, space = ENDINGS[kind]
    chat = template(text)
    prompt = chat.prompt([("user", "Is ice cold?")])
    after = prompt.partition("Is ice cold?")[2]
    assert after.endswith(ending)
    assert after.removesuffix(ending) in ("", "</user>", "</u>")
    assert (chat.space or "") == space
    answered = chat.answered([("user", "Is ice cold?")], "Of course")
    assert answered.startswith(f"{prompt}{space}Of course")


@pytest.mark.parametrize("kind", ENDINGS)
def test_the_answer_words_follow_the_prompt(kind: str) -> None:
    chat = template(ENDINGS[kind][0])
    prompt = PromptBuilder(chat.tokenizer).binary(BinaryExample("Is ice cold?", True))
    decoded = chat.tokenizer.decode([prompt.answers.target]).strip()
    assert decoded == "Yes"
    read = chat.tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    assert list(prompt.token_ids) == read


def test_content_may_have_to_be_a_list_of_parts() -> None:
    chat = template("{% for m in messages %}{{ m.role }}:{{ m.content[0]['text'] }};{% endfor %}")
    assert chat.prompt([("system", "Be short."), ("user", "Is it?")]).startswith(
        "system:Be short.;user:Is it?;"
    )
    refusing = template(
        "{% for m in messages %}{% if m.content is string %}{{ raise_exception('parts only') }}"
        "{% endif %}{% for part in m.content %}({{ part.text }}){% endfor %}{% endfor %}"
    )
    assert refusing.prompt([("user", "Is it?")]).startswith("(Is it?)")


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}",
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('take turns') }}{% endif %}{{ m.content }}{% endfor %}",
    ],
    ids=["refused", "dropped", "turns"],
)
def test_where_no_system_message_is_taken_it_begins_the_users(text: str) -> None:
    chat = template(text)
    assert not chat.takes_system
    own = PromptTemplate("Is it so: {question}", "Say Yes or No.")
    builder = PromptBuilder(chat.tokenizer, template=own)
    prompt = builder.binary(BinaryExample("Is ice cold?", True))
    assert prompt.text == "Say Yes or No.\n\nIs it so: Is ice cold?"
    decode = chat.tokenizer.decode
    assert decode([prompt.token_ids[prompt.positive_position]]).strip() == "Yes"
    assert decode([prompt.token_ids[prompt.negative_position]]).strip() == "No"


@pytest.mark.parametrize("text", ["{{ undefined_name() }}", "{{ messages | length }}"])
def test_a_template_that_writes_no_message_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match=r"Try chat=false"):
        template(text).prompt([("user", "Is it?")])


def test_the_date_is_that_of_the_run() -> None:
    dated = "{{ strftime_now('%d %b %Y') }} " + TURNS + BEGIN
    asked = [("user", "Is it?")]
    assert template(dated, "2025-02-03").prompt(asked).startswith("03 Feb 2025 ")
    assert template(dated).prompt(asked).startswith(date.today().strftime("%d %b %Y"))
