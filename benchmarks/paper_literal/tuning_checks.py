"""The probing set, Eq. 2-5, and Algorithm 1."""

import math
from collections.abc import Sequence
from statistics import median

from paper_literal import statistics, tuning
from paper_literal.findings import Findings, Triple
from paper_literal.model import Literal
from paper_literal.produced import AFTER, Produced, Row
from paper_literal.prompts import Tokens, Wording, prompt_one, tokens_of

RANDOM = ("random-0", "random-1", "random-2")


def check(
    made: Produced, literal: Literal, instruction: str, epochs: int, findings: Findings
) -> None:
    """Compares the probing set, the selection and the tuning; trains one head literally."""
    if not made.probing:
        findings.missing("Eq. 5", "the probing set", "there is none")
        return
    _probing(made, findings)
    _selection(made, findings)
    for form in (AFTER, "query-only", *RANDOM):
        _algorithm(made, form, findings)
    _training(made, literal, Wording(instruction), epochs, findings)


def part(made: Produced, name: str) -> list[int]:
    return [place for place, row in enumerate(made.probing) if row["split"] == name]


def tau(made: Produced) -> float:
    """Eq. 5; minus infinity with fewer true positives than the settings ask for."""
    values = [math.fsum(map(math.fsum, made.probing_nas[place])) for place in part(made, "TP")]
    enough = len(values) >= max(1, made.settings["min_true_positives"])
    return min(values) if enough else -math.inf


def _probing(made: Produced, findings: Findings) -> None:
    known = [(row["question"], row["answer"]) for row in made.parametric if row["right"]]
    seen = [(row["question"], row["answer"]) for row in made.probing]
    findings.same(
        "Section 4.1", "probed are the questions answered rightly", [("all", seen, known)]
    )
    parts: list[Triple] = [
        (row["question"], (row["split"] == "TP"), row["verdict"] == "positive")
        for row in made.probing
    ]
    shared = {made.probing[place]["question"] for place in part(made, "tuning")}
    shared &= {made.probing[place]["question"] for place in part(made, "validation")}
    parts.append(("in both D and V", len(shared), 0))
    findings.same("Section 4.2", "TP are the affirmed; D and V share nothing", parts)
    middle = median(row["entropy"] for row in made.parametric)
    sure = [
        (row["question"], row["confident"], row["entropy"] <= middle) for row in made.parametric
    ]
    findings.same("Appendix G", "confident answers against the median of the entropies", sure)
    right = [
        (row["question"], row["knowledge"] == "Det-T", row["right"] is True)
        for row in made.parametric
    ]
    findings.same("Appendix G", "Det-T are the right answers", right)
    _undetermined(made.parametric, findings)


_NO_ANSWER = (
    "unable to determine",
    "not certain",
    "impossible to tell",
    "does not contain information",
    "does not state",
    "don't know",
    "do not know",
    "cannot be determined",
)


def _undetermined(rows: Sequence[Row], findings: Findings) -> None:
    triples: list[Triple] = [
        (row["prediction"], row["knowledge"], "Non-Det")
        for row in rows
        if not row["right"] and any(text in row["prediction"].lower() for text in _NO_ANSWER)
    ]
    if triples:
        findings.same("Appendix G", "answers that say so are Non-Det", triples)


def _selection(made: Produced, findings: Findings) -> None:
    nas, settings = made.probing_nas, made.settings
    heads = len(nas[0]) * len(nas[0][0])
    share = min(1.0, heads / 1024)
    k = settings["k"] or max(1, round(100 * share))
    n = settings["n"] or max(1, round(30 * share))
    wanted = statistics.select(nas, k, n, settings["consistency"])
    seen = [tuple(head) for head in made.tuned()["heads"]]
    about = f"heads against sorting and counting in Python, k = {k}, N = {n}"
    findings.same("Eq. 2-4", about, [("P", seen, wanted)])
    for form in RANDOM:
        drawn = [tuple(head) for head in made.tuned(form).get("heads", [])]
        triples: list[Triple] = [("number of heads", len(set(drawn)), len(wanted))]
        if drawn:
            findings.same("Table 20", f"{form}: as many different heads as P", triples)


def _algorithm(made: Produced, form: str, findings: Findings) -> None:
    rows = made.tuning(form)
    validation = part(made, "validation")
    if not rows or not validation:
        why = made.tuned(form).get("why") or "no head was tuned"
        findings.missing("Algorithm 1", f"{form}: decisions", why)
        return
    nas = [made.probing_nas[place] for place in validation]
    single = {
        (layer, head): math.fsum(one[layer][head] for one in nas) / len(nas)
        for layer in range(len(nas[0]))
        for head in range(len(nas[0][0]))
    }
    settings = made.settings
    limits = {"T": settings["epochs"], "rho": settings["rho"], "tau": tau(made)}
    limits["share"] = settings["halting_share"]
    limits["by_model"] = settings["cancellation"] == "model"
    start = single, math.fsum(single.values())
    decided, wrong = tuning.replay(rows, start, limits)
    outcomes = [row for row in rows if row["record"] == "head"]
    triples: list[Triple] = [("order and epochs", wrong, [])]
    for row in outcomes:
        mine = decided[row["layer"], row["head"]]
        name = f"layer {row['layer']} head {row['head']}"
        triples.append((f"{name} kept", row["kept"], mine.kept))
        triples.append((f"{name} halted", bool(row["halted"]), mine.halted))
    order = [[row["layer"], row["head"]] for row in outcomes]
    triples.append(("order", order, made.tuned(form)["heads"][: len(order)]))
    if not outcomes[-1]["halted"]:
        triples.append(("every head", len(order), len(made.tuned(form)["heads"])))
    kept = [[row["layer"], row["head"]] for row in outcomes if row["kept"]]
    triples.append(("kept", kept, made.tuned(form)["kept"]))
    about = f"{form}: stopped, cancelled and halted against lines 1-18 (tau {limits['tau']:.4g})"
    findings.same("Algorithm 1", about, triples)


def _training(
    made: Produced, literal: Literal, wording: Wording, epochs: int, findings: Findings
) -> None:
    settings = made.settings
    recorded = [row for row in made.tuning() if row["record"] == "epoch"]
    if not recorded:
        findings.missing("Section 4.3", "a head trained literally", "no head was tuned")
        return
    head = recorded[0]["layer"], recorded[0]["head"]
    mine = [row for row in recorded if (row["layer"], row["head"]) == head][:epochs]
    if len(part(made, "tuning")) > settings["tuning_batch_size"]:
        mine = mine[:0]  # the order of D would decide

    def prompts(name: str) -> list[Tokens]:
        rows = [made.probing[place] for place in part(made, name)]
        return [
            tokens_of(literal.tokenizer, prompt_one(wording, row, None), wording) for row in rows
        ]

    target = literal.tokenizer("Yes", add_special_tokens=False)["input_ids"][0]
    found = tuning.train(
        literal, prompts("tuning"), prompts("validation"), head, target, settings, len(mine)
    )
    triples: list[Triple] = []
    for row, (alpha, beta) in zip(mine, found, strict=True):
        triples.append((f"alpha after epoch {row['epoch']}", row["alpha"], alpha))
        triples.append((f"beta after epoch {row['epoch']}", row["beta"], beta))
    about = f"layer {head[0]} head {head[1]}: NAS of V against AdamW on its q and k rows alone"
    findings.close("Section 4.3", about, triples, 1e-4, scale=True)
