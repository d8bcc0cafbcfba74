"""Table 7: four examples before a question, as ``nasalign evaluate --harness-out`` writes them."""

import json
import re
from pathlib import Path

from paper_literal.findings import Findings, Triple
from paper_literal.model import Literal
from paper_literal.produced import BEFORE, DOMAINS, Produced, Row, nasalign
from paper_literal.prompts import FILES, upstream

SHOTS = 4


def check(
    made: Produced, literal: Literal, instruction: str, data: Path, out: Path, findings: Findings
) -> None:
    """Compares the examples with the published rows, and the probabilities after them."""
    shown: list[Triple] = []
    chances: list[Triple] = []
    for name in DOMAINS:
        rows = {row["id"]: row for row in made.rows(name, BEFORE, "4-shot")}
        texts = {
            one["id"]: one["text"] for one in _documents(made, name, data, out) if one["id"] in rows
        }
        shown.append((f"{name}: rows that are asked", bool(texts), True))
        for text in texts.values():
            shown += _examples(
                name, text, instruction, data, {row["question"] for row in rows.values()}
            )
        for place, text in sorted(texts.items(), key=lambda one: len(one[1]))[:1]:
            ids = literal.tokenizer(text, add_special_tokens=False)["input_ids"]
            _, chance = literal.run(ids)
            for word, column in (("Yes", "p_yes"), ("No", "p_no")):
                wanted = float(chance[literal.words(word)].sum())
                chances.append((f"{name} {column}", rows[place][column], wanted))
    findings.same("Table 7", "four different examples of the task itself, two of them Yes", shown)
    findings.close("Table 7", "probabilities after the prompt with four examples", chances, 5e-5)


def _documents(made: Produced, name: str, data: Path, out: Path) -> list[Row]:
    """The prompts of a data set with four examples, written out."""
    read = made.facts["data"][name]
    sources = [part for file in FILES[read] for part in ("--source", str(data / file))]
    settings = made.settings
    same = ("direction", "sides", "context", "seed", "evaluation_questions")
    options = [part for key in same for part in ("--set", f"{key}={settings[key]}")]
    nasalign(
        *("evaluate", made.facts["model"]["name"], "--data", read, *sources, *options),
        *("--set", f"shots={SHOTS}", "--harness-out", str(out / name)),
    )
    (path,) = (out / name).glob("*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _examples(
    name: str, text: str, instruction: str, data: Path, evaluated: set[str]
) -> list[Triple]:
    """What is to be said of the examples of one prompt."""
    _, _, after = text.partition(f"{instruction} ")
    answered = re.findall(r"(?s)(.*?) Answer: (Yes|No)\n", after)
    questions = [re.search(r"(?s)Question: (.*)", one)[1] for one, _ in answered]
    words = [word for _, word in answered]
    asked = [re.sub(r"(?s) Is the answer .*\?$", "", one) for one in questions]
    triples: list[Triple] = [
        (f"{name}: examples", len(answered), SHOTS),
        (f"{name}: different questions", len(set(questions)), SHOTS),
        (f"{name}: Yes among them", words.count("Yes"), SHOTS // 2),
    ]
    published = list(upstream(data, name))
    if name == "strategyqa":
        truth = {row["question"]: "Yes" if row["answer"] else "No" for row in published}
        triples += [(one, truth.get(one), word) for one, word in zip(asked, words, strict=True)]
        triples.append((f"{name}: evaluated too", evaluated & set(asked), set()))
    elif name != "ar-lsat":
        known = {" ".join(row["question"].split()) for row in published}
        triples += [(one, " ".join(one.split()) in known, True) for one in asked]
        triples.append((f"{name}: evaluated too", evaluated & set(asked), set()))
    return triples
