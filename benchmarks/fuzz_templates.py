"""Templates for the fuzzer: prompts of a user's own, and chat templates that a model brings along.

Each is refused in words, or gives a prompt in which the values stand as they are, no value is a
special token, and the answer words are where they were located.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tiny
from nasalign.data.records import BinaryExample
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.chat_template import ChatTemplate
from nasalign.prompts.user_template import PromptTemplate
from nasalign.prompts.wordings import Vocabulary

if TYPE_CHECKING:
    from fuzz import Maker

WORDS = (
    *("yes/no", "Ja/Nein", "Yes|True/No|False", "是/否", "Relevant/Not relevant", "A/B/C"),
    *("x", "a/a"),
)
PARTS = (
    *("{question}", "{{ context }}", "{ answer }", "{column}", "{positive}", "{negative}"),
    "{unsure}",
    *(
        "Yes",
        "No",
        "yes",
        "NO",
        "Ja oder Nein",
        "是",
        "否",
        "true or false",
        "{}",
        "{",
        "}}",
        "{1}",
    ),
    *("<|im_end|>", "\n", ". ", ": ", "{{question}", "{question }", "{a.b}", "“是”或“否”。"),
)
TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}",
    "{% for m in messages %}{{ m.content | trim }} {% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "[{{ m.content }}]{% endfor %}",
    "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}|{% endfor %}",
    "{{ strftime_now('%d %b %Y') }}{{ messages[-1].content }}",
    "{{ messages[0].content | upper }}",
    "{{ messages[0].content",
)
ENDINGS = (
    *("", "<assistant>", "<assistant>\n<think>\n", "<think></think>", "[THINK]", "◁think▷", "A: "),
    *("<|start|>assistant<|channel|>analysis<|message|>", "<|START_THINKING|>", "{{ 1 / 0 }}"),
)


def user_templates() -> Callable[["Maker", Path], None]:
    """Templates of any parts, with a chat template or without."""
    tokenizers = [tiny.build_tokenizer(chat_template=chat) for chat in (True, False)]

    def check(make: "Maker", folder: Path) -> None:
        rng = make.rng
        parts = [rng.choice((*PARTS, make.text(2))) for _ in range(rng.randint(1, 8))]
        template = PromptTemplate("".join(parts), rng.choice((None, "Be strict. Yes or No.")))
        vocabulary = rng.choice(WORDS)
        words = Vocabulary.of(vocabulary)
        builder = PromptBuilder(rng.choice(tokenizers), vocabulary, template=template)
        values = {name: make.text(3).strip() or "x" for name in template.columns}
        example = BinaryExample(
            values.get("question", "q"),
            True,
            values.get("answer"),
            values.get("context"),
            fields=tuple(values.items()),
        )
        prompt = builder.binary(example)
        for value in values.values():
            assert value in prompt.text, "a value is not in the prompt"
        assert 0 <= prompt.first_row < len(prompt.token_ids)
        assert template.sentence(words)
        if prompt.named:
            for place, forms in (
                (prompt.positive_position, words.positives),
                (prompt.negative_position, words.negatives),
            ):
                said = builder.tokenizer.decode(list(prompt.token_ids[place : place + 4])).strip()
                begun = [form[:1].casefold() for form in forms]
                assert said[:1].casefold() in begun, f"{said!r} located for {forms}"

    return check


def chat_templates() -> Callable[["Maker", Path], None]:
    """Chat templates of any parts."""

    def check(make: "Maker", folder: Path) -> None:
        rng, tokenizer = make.rng, tiny.build_tokenizer()
        ending = rng.choice((*ENDINGS, make.text(1)))
        tokenizer.chat_template = (
            f"{rng.choice(TURNS)}{{% if add_generation_prompt %}}{ending}{{% endif %}}"
        )
        chat = ChatTemplate(tokenizer, "2026-01-31")
        turns = [("user", "Is ice cold?")]
        prompt = chat.prompt(turns)
        assert "Is ice cold?" in prompt
        assert not prompt.rstrip().endswith(("<think>", "[THINK]", "◁think▷")), "left open"
        answered = chat.answered(turns, "Quite so")
        assert answered.startswith(prompt), "an answer to another prompt"
        asked = PromptBuilder(tokenizer).binary(BinaryExample("Is it?", True))
        assert tokenizer.decode([asked.answers.target]).strip() == "Yes"

    return check
