"""Prompts, NAS, confidences, free answers and attention: the model is run by plain transformers."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paper_literal import paper_text
from paper_literal.findings import Findings, Triple
from paper_literal.model import Literal, nas_of_heads
from paper_literal.produced import AFTER, BEFORE, FREE, SETS, Produced, Row
from paper_literal.prompts import Tokens, Wording, contexts, prompt_one, prompt_two, tokens_of

P = 5e-5
"""Largest difference of a probability: the product is in float32, the literal model in float64."""
HEAD, MODEL = 1e-3, 1e-2
"""The same of the NAS of a head and of all heads, which are sums over tens to hundreds of rows."""


class ModelChecks:
    """Runs the literal model on some of the product's rows.

    Args:
        made: the product's files.
        literal: the untouched model.
        data: the folder of the published data sets.
        paper: the paper's text.
        count: rows of each data set; the shortest ones.
    """

    def __init__(
        self, made: Produced, literal: Literal, data: Path, paper: Path, count: int
    ) -> None:
        self.made, self.literal, self.data, self.count = made, literal, data, count
        self._cache: dict[tuple[str, str], tuple[Any, Tokens]] = {}
        self.instructions = paper_text.instructions(paper)
        self.words = paper_text.words(paper)
        boxed = paper_text.boxed(paper, "Prompt I (")
        self.prompt_one = boxed.partition("Question:")[0].strip()
        self.prompt_two = paper_text.boxed(paper, "Prompt II (").partition("Question:")[0].strip()
        assert boxed.endswith("Question: {question} Is the answer {label}? Answer:")

    def check(self, findings: Findings, forms: dict[str, Literal]) -> None:
        for form, literal in forms.items():
            self._rows(form, literal, findings)
        self._wordings(findings)
        self._free(findings)
        self._figures(findings, forms)

    def context(self, name: str, row: Row) -> str | None:
        settings = self.made.settings
        if settings["context"] == "none" or name not in ("strategyqa", "musique", "ar-lsat"):
            return None
        if name == "ar-lsat" and row.get("answer") is None:
            return None  # the rewritten question holds its passage (Table 14)
        found = contexts(self.data, name, settings["context"] == "supporting")
        return found[re.sub(r"-(yes|no)$", "", row["id"])]

    def tokens(self, name: str, row: Row, wording: Wording) -> Tokens:
        prompt = prompt_one(wording, row, self.context(name, row))
        at_end = self.made.settings.get("nas_rows") == "from_instruction_end"
        return tokens_of(self.literal.tokenizer, prompt, wording, at_end)

    def some(self, name: str, form: str, wording: str = "plain") -> list[tuple[int, Row]]:
        """The shortest rows of a data set, with their places."""
        rows = list(enumerate(self.made.rows(name, form, wording)))
        rows.sort(key=lambda one: len(self.context(name, one[1]) or "") + len(one[1]["question"]))
        return rows[: self.count]

    def _rows(self, form: str, literal: Literal, findings: Findings) -> None:
        wording = Wording(self.prompt_one)
        chances: list[Triple] = []
        heads: list[Triple] = []
        sums: list[Triple] = []
        for name in SETS:
            nas = self.made.nas(name, form)
            for place, row in self.some(name, form):
                tokens = self.tokens(name, row, wording)
                layers, chance = literal.run(tokens.ids)
                chances += _chances(literal, row, chance, wording, name)
                wanted = nas_of_heads(layers, tokens)
                sums.append((f"{name} {place}", row["nas"], sum(map(sum, wanted))))
                if nas:
                    sums.append((f"{name} {place} sum", row["nas"], sum(map(sum, nas[place]))))
                    heads += _heads(nas[place], wanted, f"{name} {place}")
        about = f"{form}: probabilities of Yes and No after the printed prompt, and the verdict"
        findings.close("Prompt I", about, chances, P)
        about = f"{form}: NAS of every head against the sum over rows of eager attention"
        findings.close("Eq. 1", about, heads, HEAD)
        findings.close("model NAS", f"{form}: against the sum over heads", sums, MODEL)

    def _wordings(self, findings: Findings) -> None:
        plain = Wording(self.instructions["nasa"])
        findings.same("Table 12", "Prompt I", [("nasa", plain.written, self.prompt_one)])
        chosen = {one.lower() + "-" + other.lower(): (one, other) for one, other in self.words}
        for item, wordings in (
            ("Table 10", {name: Wording(plain.instruction, *two) for name, two in chosen.items()}),
            ("Table 11", {name: Wording(self.instructions[name]) for name in ("A", "B")}),
        ):
            triples: list[Triple] = []
            for name, wording in wordings.items():
                for data in SETS:
                    for _, row in self.some(data, BEFORE, name)[:1]:
                        _, chance = self.literal.run(self.tokens(data, row, wording).ids)
                        triples += _chances(self.literal, row, chance, wording, f"{name} {data}")
            findings.close(
                item, "probabilities after its printed instruction and words", triples, P
            )

    def _free(self, findings: Findings) -> None:
        said: list[Triple] = []
        entropies: list[Triple] = []
        for name, rows in self._asked():
            for row in sorted(rows, key=lambda row: len(row["question"]))[: self.count]:
                context, options = self._given(name, row)
                prompt = prompt_two(self.prompt_two, row["question"], context, options)
                limit = min(24, self.made.settings["answer_tokens"])
                text, entropy = self.literal.free(prompt, limit)
                entropies.append((f"{name} {row['question']}", row["entropy"], entropy))
                said.append((row["question"], _agrees(row["prediction"], text), True))
        findings.same("Prompt II", "greedy answers to the printed prompt", said)
        findings.close("Appendix G", "entropy of the first token's distribution", entropies, 5e-4)

    def _asked(self) -> Iterator[tuple[str, Sequence[Row]]]:
        yield "hotpotqa", self.made.parametric
        for name in FREE:
            yield name, self.made.free(name)

    def _given(self, name: str, row: Row) -> tuple[str | None, list[str]]:
        """The context and the options of a question that is asked freely."""
        if name == "hotpotqa":
            return None, []
        options: list[str] = []
        if name == "ar-lsat":
            options = _options(self.data)[row["id"]]
        return self.context(name, {"id": row["id"], "answer": row["answer"]}), options

    def _figures(self, findings: Findings, forms: dict[str, Literal]) -> None:
        wording = Wording(self.prompt_one)
        for number, form in ((3, BEFORE), (6, BEFORE), (7, AFTER)):
            triples: list[Triple] = []
            for row in self.made.table(f"figure-{number}"):
                layers, tokens = self._shown(row["dataset"], form, forms[form], wording)
                layer, head = map(int, re.findall(r"\d+", row["head"]))
                column = tokens.yes if row["word"] == "Yes" else tokens.no
                wanted = float(layers[layer][head, int(row["place"]), column])
                triples.append((f"{row['head']} {row['place']}", row["attention"], wanted))
            about = "attention to Yes and No against eager attention, token by token"
            findings.close(f"Figure {number}", about, triples, P)
        self._cache.clear()

    def _shown(
        self, name: str, form: str, literal: Literal, wording: Wording
    ) -> tuple[Any, Tokens]:
        """The attention on the shortest question of a data set whose answer is Yes."""
        if (name, form) not in self._cache:
            rows = [row for row in self.made.rows(name) if row["label"]]
            several = [self.tokens(name, row, wording) for row in rows]
            tokens = min(several, key=lambda one: len(one.ids))
            self._cache[name, form] = literal.run(tokens.ids)[0], tokens
        return self._cache[name, form]


def _chances(
    literal: Literal, row: Row, chance: Any, wording: Wording, name: str
) -> Iterator[Triple]:
    """The probabilities of a row, and its verdict as 1 for Yes and 0 for No."""
    yes, no = (
        float(chance[literal.words(word)].sum()) for word in (wording.positive, wording.negative)
    )
    yield f"{name} p_yes", row["p_yes"], yes
    yield f"{name} p_no", row["p_no"], no
    if "generated" not in row:
        yield f"{name} verdict", float(row["verdict"] == "positive"), float(yes > no)


def _heads(seen: list[list[float]], wanted: list[list[float]], name: str) -> Iterator[Triple]:
    for layer, (mine, other) in enumerate(zip(seen, wanted, strict=True)):
        for head, (one, two) in enumerate(zip(mine, other, strict=True)):
            yield f"{name} layer {layer} head {head}", one, two


def _agrees(seen: str, wanted: str) -> bool:
    """Whether one of two texts begins with the other, apart from spaces: either may be cut."""
    one, two = " ".join(seen.split()), " ".join(wanted.split())
    return one.startswith(two) or two.startswith(one)


def _options(data: Path) -> dict[str, list[str]]:
    from paper_literal.prompts import upstream

    return {
        question["id"]: question["options"]
        for passage in upstream(data, "ar-lsat")
        for question in passage["questions"]
    }
