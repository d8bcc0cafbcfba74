"""Questions, and a tiny model with questions to it as files: what the whole job needs."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import tiny
from nasalign.config import Settings
from nasalign.data.records import Question
from nasalign.nasa.knowledge import ask_and_judge
from nasalign.session import Session

DENIES, AFFIRMS = 3, 0  # seeds by what the tiny model says of its own answers
QUESTIONS = (  # of unequal length, neither the longest nor the shortest first
    "Who wrote Hamlet?",
    "In which continent is Brazil, and which currency is used there?",
    "How many legs does a spider have?",
    "What?",
    "What is the chemical symbol of gold?",
    "In what year did the war end?",
    "What is the capital of France, the country of which Paris is the capital?",
)


@torch.no_grad()
def lean_the_other_way(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives "Yes" and "No" each other's rows, read and written: what said No now says Yes."""
    weights = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    for weight in weights[: 1 if model.config.tie_word_embeddings else 2]:
        for words in (("Yes", "No"), ("yes", "no"), ("YES", "NO")):
            for lead in ("", " "):
                pair = [tokenizer.encode(lead + word, add_special_tokens=False) for word in words]
                if all(len(ids) == 1 for ids in pair):
                    [yes], [no] = pair
                    weight[[yes, no]] = weight[[no, yes]]


def sets(settings: Iterable[str]) -> list[str]:
    """The options that give a command these settings."""
    return [part for setting in settings for part in ("--set", setting)]


def what_it_says(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: int = 60
) -> list[tuple[str, str]]:
    """Questions, and the first word that a tiny model answers to each; empty where it has none."""
    asked = [Question(f"What is word{number}?", "-") for number in range(questions)]
    session = Session(model, tokenizer, Settings(answer_tokens=6))
    found = []
    for one in ask_and_judge(session, asked):
        words = re.findall(r"[A-Za-z]{3,}", one.prediction)
        found.append((one.question.question, words[0] if words else ""))
    return found


def known_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str]]:
    """Rows of HotpotQA whose answers are what a tiny model says to them."""
    return [
        {"question": question, "answer": answer, "type": "bridge"}
        for question, answer in what_it_says(model, tokenizer)
        if answer
    ]


def case(
    folder: Path, seed: int, questions: int = 60, *, mirrored: bool = False
) -> tuple[Path, Path]:
    """A tiny model's folder, and questions whose answers are what this model says to them.

    With ``mirrored``, the model leans the other way.
    """
    model, tokenizer = tiny.build_model("llama", seed=seed), tiny.build_tokenizer()
    if mirrored:
        lean_the_other_way(model, tokenizer)
    with (folder / "questions.jsonl").open("w") as file:
        for number, (question, answer) in enumerate(what_it_says(model, tokenizer, questions)):
            row = {
                "question": question,
                "answer": answer or "nothing",
                "wrong_answer": "banana",
                "subject": f"{number}",
            }
            file.write(json.dumps(row) + "\n")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model", folder / "questions.jsonl"
