"""Examples, and tokenizers that differ in how a prompt begins and how an answer follows it."""

import tiny
from nasalign.data.binary import sample, to_binary
from nasalign.data.records import BinaryExample, load_facts

WRITES_BOS = "{% if bos_token %}{{ bos_token }}{% endif %}"


def examples(questions: int = 12) -> list[BinaryExample]:
    facts = sample(load_facts("test"), questions, 0)
    return to_binary(facts, 0, load_facts("test"), sides="both").examples


def tokenizers() -> dict:
    """Whether the tokenizer adds a BOS, the template writes one, or both, or neither."""
    found = {
        f"{style}, chat {chat}, bos {bos}": tiny.build_tokenizer(
            style=style, chat_template=chat, bos=bos
        )
        for style in ("bytelevel", "metaspace")
        for chat in (True, False)
        for bos in (True, False)
    }
    silent = tiny.build_tokenizer()  # adds a BOS to texts, but its template wants none
    silent.chat_template = tiny.CHAT_TEMPLATE.removeprefix(WRITES_BOS)
    return found | {"a template without the bos": silent}
