"""Yes/no examples as a task of lm-evaluation-harness (EleutherAI).

A task is a YAML file, the JSONL file of its documents, and ``answers.py``, which computes the
verdict as nasalign does. The prompts are written out, chat template and special tokens included.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, PromptError
from nasalign.io.files import write_jsonl
from nasalign.io.storage import write_text
from nasalign.prompts.builder import TAIL, BinaryPrompt, PromptBuilder

ANSWERS = "nasalign_answers"
"""Stem of the copy of ``answers.py``; other tasks in the folder may have modules too."""
_YAML = """\
# Written by nasalign: {title}.
# The prompts are as the model reads them{template}, so give neither
# --apply_chat_template nor --system_instruction:
#   lm_eval --model hf --model_args pretrained=MODEL,{arguments} \\
#     --include_path THIS_FOLDER --tasks {task}
task: {task}
custom_dataset: !function {answers}.documents
dataset_kwargs:
  file: {task}.jsonl
test_split: test
num_fewshot: 0
output_type: multiple_choice
doc_to_text: text
doc_to_choice: choices
doc_to_target: gold
target_delimiter: ""
process_results: !function {answers}.process_results
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: f1
    aggregation: !function {answers}.f1
    higher_is_better: true
  - metric: yes_rate
    aggregation: mean
    higher_is_better: null  # neither
metadata:
  version: 1.0
"""


@dataclass(frozen=True)
class Task:
    """A task in memory.

    A document has an example's ``text``, the ``choices`` that can follow it, which of the ``words``
    each begins (0 positive, 1 negative, 2 "I don't know"), ``label``, and ``gold``, the first
    choice of the right word.
    """

    name: str  # as in ``lm_eval --tasks``
    documents: list[dict[str, Any]]
    special: bool  # whether the tokenizer adds special tokens that are not in the text
    chat: bool  # whether the text is of the chat template

    @classmethod
    def of(cls, name: str, examples: Sequence[BinaryExample], builder: PromptBuilder) -> "Task":
        """Make the task of N examples; ``name`` is of the data and how it is asked.

        Raise PromptError if an example has no prompt, or lm_eval would read it as other tokens.
        """
        prompts = [builder.binary(example) for example in examples]
        reading = _Reading(builder.tokenizer, not builder.chat)
        documents = [
            _document(number, example, prompt, reading)
            for number, (example, prompt) in enumerate(zip(examples, prompts, strict=True), start=1)
        ]
        return cls(
            "nasalign_" + re.sub(r"[^A-Za-z0-9_-]+", "_", name),
            documents,
            reading.adds(prompts[0].text),
            bool(builder.chat),
        )

    @property
    def arguments(self) -> str:
        """What ``--model_args`` needs beside the model, for the same tokens and sums."""
        return f"add_bos_token={self.special},softmax_dtype=float32"

    def write(self, folder: Path, title: str, overwrite: bool = False) -> None:
        """Write the task's files; other tasks in the folder stay.

        ``title`` says what the examples are. Raise NasAlignError if the task is there already and
        may not be overwritten, or if it cannot be written.
        """
        path = folder / f"{self.name}.yaml"
        if path.exists() and not overwrite:
            raise NasAlignError(
                f"The task {path} is there already; give another folder, or --overwrite."
            )
        text = _YAML.format(
            title=" ".join(title.split()),
            template=", chat template included" if self.chat else "",
            arguments=self.arguments,
            task=self.name,
            answers=ANSWERS,
        )
        code = Path(__file__).with_name("answers.py").read_text(encoding="utf-8")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / f"{ANSWERS}.py", code)
            write_jsonl(folder / f"{self.name}.jsonl", self.documents)
            write_text(path, text)
        except OSError as error:
            raise NasAlignError(f"Cannot write to {folder}: {error.strerror}.") from error


@dataclass
class _Reading:
    """How lm_eval reads a prompt and an answer: as texts, which it turns into tokens itself."""

    tokenizer: PreTrainedTokenizerBase
    special: bool
    _found: dict[tuple[str, int], str] = field(default_factory=dict, init=False)

    def text_of(self, prompt: BinaryPrompt, token: int) -> str:
        """Return the text that lm_eval reads as this one token after the prompt."""
        place = prompt.text[-TAIL:], token
        if place not in self._found:
            decoded = self.tokenizer.decode([token])
            whole = [*prompt.token_ids, token]
            texts = (lead + decoded for lead in ("", " "))  # some tokenizers hide the space
            found = next((one for one in texts if self._read(prompt.text, one) == whole), None)
            if found is None:
                raise PromptError(
                    f"lm_eval, which reads texts, cannot be asked for the answer token {decoded!r} "
                    f"after the prompt {prompt.text!r}; evaluate without --harness-out."
                )
            self._found[place] = found
        return self._found[place]

    def adds(self, text: str) -> bool:
        """Whether the tokenizer adds special tokens to a text."""
        return self.special and self._ids(text) != self._ids(text, False)

    def _read(self, context: str, answer: str) -> list[int]:
        """The tokens as ``lm_eval.api.model.TemplateLM`` combines them."""
        before = self._ids(context.rstrip())
        return before + self._ids(context + answer)[len(before) :]

    def _ids(self, text: str, special: bool | None = None) -> list[int]:
        chosen = self.special if special is None else special
        return list(self.tokenizer(text, add_special_tokens=chosen)["input_ids"])


def _document(
    number: int, example: BinaryExample, prompt: BinaryPrompt, reading: _Reading
) -> dict[str, Any]:
    answers = prompt.answers
    tokens = [*answers.positive, *answers.negative, *answers.unsure]
    sizes = len(answers.positive), len(answers.negative), len(answers.unsure)
    return {
        "id": example.id or str(number),
        "text": prompt.text,
        "choices": [reading.text_of(prompt, token) for token in tokens],
        "words": [word for word, size in enumerate(sizes) for _ in range(size)],
        "label": example.known_label,
        "gold": 0 if example.known_label else len(answers.positive),
    }
