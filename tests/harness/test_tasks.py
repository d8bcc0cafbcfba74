"""A task holds the prompts and the answers' tokens that nasalign itself compares."""

import json
from pathlib import Path

import pytest
import yaml

import tiny
from harness.material import examples, tokenizers
from nasalign.errors import NasAlignError, PromptError
from nasalign.harness.tasks import Task, _Reading
from nasalign.prompts.builder import PromptBuilder

SHOTS = examples(2)


@pytest.mark.parametrize("name", tokenizers())
@pytest.mark.parametrize("vocabulary", ["yes/no", "correct/wrong"])
def test_each_choice_is_one_answer_token_after_the_prompt(name: str, vocabulary: str) -> None:
    tokenizer = tokenizers()[name]
    builder = PromptBuilder(tokenizer, vocabulary, shots=SHOTS)
    asked = examples(4)
    task = Task.of("facts", asked, builder)
    chat = bool(builder.chat)
    for example, row in zip(asked, task.documents, strict=True):
        prompt = builder.binary(example)
        assert row["text"] == prompt.text
        assert row["label"] == example.label
        ids = list(prompt.token_ids)
        tokens: dict[int, list[int]] = {0: [], 1: []}
        for choice, word in zip(row["choices"], row["words"], strict=True):
            read = tokenizer(prompt.text + choice, add_special_tokens=not chat)["input_ids"]
            assert read[:-1] == ids
            tokens[word].append(read[-1])
        assert tuple(tokens[0]) == prompt.answers.positive
        assert tuple(tokens[1]) == prompt.answers.negative
        assert row["words"][row["gold"]] == (0 if example.label else 1)
    with_bos = (
        tokenizer("Yes")["input_ids"] != tokenizer("Yes", add_special_tokens=False)["input_ids"]
    )
    assert task.special == (with_bos and not chat)


def test_a_word_of_several_tokens_is_asked_for_by_its_first() -> None:
    tokenizer = tiny.build_tokenizer()
    task = Task.of("facts", examples(2), PromptBuilder(tokenizer, "Certainly/Never"))
    for row in task.documents:
        assert len(row["choices"]) >= 2
        for choice, word in zip(row["choices"], row["words"], strict=True):
            begun = choice.strip().lower()
            assert begun
            assert ("certainly", "never")[word].startswith(begun)
            assert begun not in ("certainly", "never")


def test_what_lm_eval_cannot_be_asked_is_refused() -> None:
    tokenizer = tiny.build_tokenizer()
    prompt = PromptBuilder(tokenizer).binary(examples(1)[0])
    [half, _] = tokenizer("é", add_special_tokens=False)["input_ids"]  # a byte of two
    with pytest.raises(PromptError, match="cannot be asked for the answer token"):
        _Reading(tokenizer, False).text_of(prompt, half)


def test_the_files_are_written_beside_others(tmp_path: Path) -> None:
    builder = PromptBuilder(tiny.build_tokenizer())
    folder = tmp_path / "tasks"
    for name in ("my data.v2", "facts"):
        task = Task.of(name, examples(2), builder)
        task.write(folder, "some\nexamples: of <it>")
    assert task.name == "nasalign_facts"
    names = ["nasalign_answers.py", "nasalign_facts.jsonl", "nasalign_facts.yaml"]
    names += ["nasalign_my_data_v2.jsonl", "nasalign_my_data_v2.yaml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    lines = (folder / "nasalign_facts.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == task.documents

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    config = yaml.load((folder / "nasalign_facts.yaml").read_text(), Loader)
    assert config["task"] == "nasalign_facts"
    assert config["dataset_kwargs"] == {"file": "nasalign_facts.jsonl"}
    assert config["target_delimiter"] == ""
    assert str(tmp_path) not in (folder / "nasalign_facts.yaml").read_text()


def test_a_task_that_is_there_is_left_alone(tmp_path: Path) -> None:
    task = Task.of("facts", examples(1), PromptBuilder(tiny.build_tokenizer()))
    task.write(tmp_path, "one")
    with pytest.raises(NasAlignError, match="is there already; give another folder"):
        task.write(tmp_path, "two")
    assert ": one." in (tmp_path / "nasalign_facts.yaml").read_text()
    task.write(tmp_path, "two", overwrite=True)
    assert ": two." in (tmp_path / "nasalign_facts.yaml").read_text()
    for place in ("", "below"):
        with pytest.raises(NasAlignError, match="Cannot write to"):
            task.write(tmp_path / "nasalign_facts.yaml" / place, "one")
