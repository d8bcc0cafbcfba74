"""How much of the probability must the answer words have for a verdict to mean something?

    python benchmarks/coverage.py                       # the embedded model
    python benchmarks/coverage.py --model FOLDER --n 80

The same yes/no questions (facts of the development split, half of them right) are asked in many
words and wordings, in which the answer words have anything from none to all of the probability. For
each is printed: the coverage, the share of texts, decoded greedily, that have a verdict at all, and
the share whose verdict is that of the probabilities. ``LOW_COVERAGE`` in
``evaluation/metrics.py`` is chosen by this table.
"""

from typing import Any

import nasalign
from common import finish, machine, parser, table
from nasalign.data.binary import sample, to_binary
from nasalign.data.records import BinaryExample, load_facts
from nasalign.errors import NasAlignError
from nasalign.inference.scoring import score
from nasalign.prompts.user_template import PromptTemplate

WORDS = (
    *("yes/no", "true/false", "correct/wrong", "Ja/Nein", "Oui/Non", "Right/Wrong"),
    *("Agree/Disagree", "Supported/Refuted", "Valid/Invalid", "Safe/Unsafe", "Accept/Reject"),
)
TEMPLATES = {
    "asked plainly": "{question} Is the answer {answer}?",
    "words at the end": "{question}\nProposed answer: {answer}\nReply {positive} or "
    "{negative} only.",
    "judge": "You are a strict judge. Question: {question} Answer: {answer}. Say {positive} if the "
    "answer is right and {negative} if it is wrong. Verdict:",
    "explains": "{question} Is the answer {answer}? Explain, and end with {positive} or "
    "{negative}.",
    "JSON": '{question} Is the answer {answer}? Reply as {"verdict": "{positive}"} or '
    '{"verdict": "{negative}"}.',
}


def measured(
    model: Any, tokenizer: Any, examples: list[BinaryExample], **how: Any
) -> dict[str, Any]:
    """Asks once by probabilities and once by text."""
    said = {
        decoder: score(model, tokenizer, examples, decoder=decoder, record=False, **how)
        for decoder in ("logits", "generate")
    }
    written = said["generate"].verdicts
    valid = [one in ("positive", "negative") for one in written]
    pairs = zip(said["logits"].verdicts, written, strict=True)
    same = sum(mine == other for (mine, other), ok in zip(pairs, valid, strict=True) if ok)
    n = len(examples)
    return {
        "coverage": float(said["logits"].coverage.mean()),
        "with_verdict": sum(valid) / n,
        "same": same / n,
        "same_of_valid": same / max(1, sum(valid)),
    }


def main() -> None:
    """Measures every wording and prints the table by falling coverage."""
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--n", type=int, default=60, help="examples of each wording")
    arguments = options.parse_args()
    model, tokenizer = nasalign.load(arguments.model)
    facts = sample(load_facts("development"), arguments.n // 2, 0)
    examples = to_binary(facts, 0, load_facts("development")).examples
    setups: dict[str, dict[str, Any]] = {
        f"Prompt I, {words}": {"vocabulary": words} for words in WORDS
    }
    setups |= {
        f"Prompt I {instruction}": {"instruction": instruction} for instruction in ("A", "B")
    }
    setups |= {f"no chat, {words}": {"vocabulary": words, "chat": False} for words in WORDS[:4]}
    setups |= {
        f"{name}, {words}": {"template": PromptTemplate(text), "vocabulary": words}
        for name, text in TEMPLATES.items()
        for words in ("yes/no", "true/false", "Supported/Refuted")
    }
    rows = []
    for name, how in setups.items():
        try:
            rows.append({"wording": name} | measured(model, tokenizer, examples, **how))
        except NasAlignError as error:  # two words may begin with the same token
            print(f"{name}: {error}")
    rows.sort(key=lambda row: -row["coverage"])
    result = {"machine": machine(model.device), "model": arguments.model, "n": len(examples)}
    header = ["wording", *(name for name in rows[0] if name != "wording")]
    cells = [[row["wording"], *(f"{row[name]:.2f}" for name in header[1:])] for row in rows]
    finish(result | {"rows": rows}, table(header, cells), arguments.json)


if __name__ == "__main__":
    main()
