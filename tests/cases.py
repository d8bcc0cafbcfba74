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


def case(
    folder: Path, seed: int, questions: int = 60, *, mirrored: bool = False
) -> tuple[Path, Path]:
    """A tiny model's folder, and questions whose answers are what this model says to them.

    With ``mirrored``, the model leans the other way.
    """
    model, tokenizer = tiny.build_model("llama", seed=seed), tiny.build_tokenizer()
    if mirrored:
        lean_the_other_way(model, tokenizer)
    asked = [
        Question(f"What is word{number}?", "-", subject=f"{number}") for number in range(questions)
    ]
    with (folder / "questions.jsonl").open("w") as file:
        for item in ask_and_judge(Session(model, tokenizer, Settings(answer_tokens=6)), asked):
            words = re.findall(r"[A-Za-z]{3,}", item.prediction)
            row = {
                "question": item.question.question,
                "answer": words[0] if words else "nothing",
                "wrong_answer": "banana",
                "subject": item.question.subject,
            }
            file.write(json.dumps(row) + "\n")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model", folder / "questions.jsonl"
