"""Trials of trained rows of `compare` on the development split: the test split stays unseen.

A row is fitted as `compare` fits it, then asked development questions that did not choose its rate
or epoch, and free questions. A trial changes the rule of the search by options.

    python benchmarks/rival_trials.py smollm2-135m --only lora-qk,rows
    python benchmarks/rival_trials.py smollm2-135m --only lora-qk --pairs 96 --rates 2e-3 5e-3
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from common import finish, machine, parser, table
from nasalign.commands.job import Job
from nasalign.config import parse_assignments
from nasalign.data.records import BinaryExample
from nasalign.errors import NothingToFixError
from nasalign.evaluation.examples import without_evidence
from nasalign.evaluation.free_answers import FreeQuestions, effects_of
from nasalign.nasa.knowledge import what_it_knows
from nasalign.nasa.probing import probing_set
from nasalign.rivals import change_training, rate_search
from nasalign.rivals.all import RIVALS
from nasalign.rivals.material import SHOTS, material_of
from nasalign.rivals.rival import Material, odds_of

COLUMNS = ("n", "accuracy", "AUC", "share of Yes", "free answers", "KL", "seconds", "chosen")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("model")
    options.add_argument("--only", required=True, help="rows, with commas between them")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--asked", type=int, default=120, help="questions of the development split"
    )
    options.add_argument("--pairs", type=int, help="that are trained on, at most")
    options.add_argument("--rates", type=float, nargs="+", help="that are searched")
    options.add_argument("--epochs", type=int)
    options.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings")
    arguments = options.parse_args()
    if arguments.pairs:
        rate_search.MOST_PAIRS = arguments.pairs
    if arguments.rates:
        rate_search.RATES = tuple(arguments.rates)
    if arguments.epochs:
        change_training.EPOCHS = arguments.epochs
    own = parse_assignments(arguments.set)
    job = Job(arguments.model, "compare", shortcuts=own | {"seed": arguments.seed})
    splits = job.run_data.holding_out(job.splits(), SHOTS)
    session = job.session()
    asked = what_it_knows(session, without_evidence(splits.probing))
    material = material_of(session, splits, probing_set(session, asked), asked)
    judges = {one.question for one in rate_search.judges_of(material)}
    others = dict.fromkeys(
        one.question for one in material.development if one.question not in judges
    )
    chosen = set(list(others)[: arguments.asked])
    examples = [one for one in material.development if one.question in chosen]
    questions = [one for one in splits.of_development if one.question in chosen]
    free = FreeQuestions("facts (development)", questions[:100])  # type: ignore[arg-type]
    known = free.answered(session, "before")
    rows = {"untouched": _asked(material, nullcontext, examples) | {"seconds": 0, "chosen": {}}}
    rows["untouched"]["free answers"] = sum(one.known for one in known) / max(1, len(known))
    for rival in RIVALS:
        if rival.name not in arguments.only.split(","):
            continue
        begun = time.perf_counter()
        try:
            fitted = rival.fit(material)
        except NothingToFixError as nothing:
            rows[rival.name] = {"chosen": str(nothing)}
            continue
        row = {"seconds": round(time.perf_counter() - begun), "chosen": dict(fitted.chosen)}
        row |= _asked(material, fitted.on, examples)
        effects = effects_of(session, fitted.on, free, known)
        row |= {"free answers": effects["general_qa"]["after"], "KL": effects["kl"]["mean"]}
        rows[rival.name] = row
    lines = [[name, *(_text(row.get(column)) for column in COLUMNS)] for name, row in rows.items()]
    result = {"machine": machine("cpu"), "seed": arguments.seed, "rows": rows}
    finish(result, table(["row", *COLUMNS], lines), arguments.json)


def _asked(material: Material, on: Any, examples: Sequence[BinaryExample]) -> dict[str, Any]:
    """Figures of the model under a change."""
    with on(material.model):
        odds = odds_of(material.scores(examples))
    found = rate_search.Quality.of(odds, examples)  # as many right as wrong answers
    yes = float((odds > 0).double().mean())
    return {"n": len(examples), "accuracy": found.accuracy, "AUC": found.auc, "share of Yes": yes}


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    main()
