"""Kinds left out: how does nasa+ judge a kind of question that it never saw?

Fits nasa+ with pairs of all kinds, and once without each fold of them, and asks pairs of every kind
whose subjects are of the development split. What is measured already (``--out``) is not fitted
again.

    python benchmarks/kinds_left_out.py smollm2-135m --out runs/kinds
    python benchmarks/kinds_left_out.py smollm2-135m --out runs/kinds --folds numbers negated,long
"""

import json
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common import finish, machine, parser, table
from nasalign.config import load_preset, parse_assignments
from nasalign.data.binary import sample
from nasalign.data.records import BinaryExample, load_facts
from nasalign.evaluation.ranking import log_odds
from nasalign.head_rows.rows import read_weight_rows, write_rows
from nasalign.inference.scoring import score_as
from nasalign.models.loading import load
from nasalign.nasa.knowledge import ask_and_judge, what_it_knows
from nasalign.nasa.probing import probing_set
from nasalign.nasa_plus.anchors import anchors
from nasalign.nasa_plus.head_parts import joint_slices
from nasalign.nasa_plus.joint_pairs import verdicts
from nasalign.nasa_plus.joint_run import (
    ONE_FOR,
    choose_by_attribution,
    pairs_by_kind,
    rendered,
    tune_jointly,
)
from nasalign.nasa_plus.kinds import Pair, pairs_of
from nasalign.session import Session

KINDS = [kind for kind in ONE_FOR if kind not in ("known", "unknown")]
FOLDS = ("negated,numbers", "context,long", "direct,compared", "unknowable")
FREE = 100
"""Questions that are asked freely."""
UNTOUCHED, WHOLE, WITHOUT = "untouched", "all kinds", "without "


def main() -> None:
    options = parser(__doc__)
    options.add_argument("model")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--folds", nargs="*", default=FOLDS, help="kinds to leave out together")
    options.add_argument("--pairs", type=int, default=100, help="asked of a kind at most")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--set", nargs="*", default=[], metavar="key=value")
    arguments = options.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = [UNTOUCHED, WHOLE, *(WITHOUT + fold for fold in arguments.folds)]
    missing = [name for name in names if not _file(arguments, name).exists()]
    if missing:
        _measure(arguments, missing)
    found = {name: json.loads(_file(arguments, name).read_text()) for name in names}
    finish({"machine": machine("cpu"), "fits": found}, _lines(found), arguments.json)


def _measure(arguments: Namespace, names: Sequence[str]) -> None:
    changes = {"seed": arguments.seed, "kinds": "all"} | parse_assignments(arguments.set)
    settings = load_preset("fast").replace(changes)
    model, tokenizer = load(arguments.model)
    session = Session.start(model, tokenizer, settings)
    facts = sample(load_facts("probing"), settings.probing_questions, settings.seed)
    asked = what_it_knows(session, facts)
    probing = probing_set(session, asked)
    kinds = pairs_by_kind(session, asked, probing)
    tested = _tested(arguments)
    for name in names:
        if name == UNTOUCHED:
            row: dict[str, Any] = {"kinds": _asked(session, tested), "free": _free(session)}
        else:
            left_out = _left_out(name)
            own = {kind: pairs for kind, pairs in kinds.items() if kind not in left_out}
            row = _fitted(session, own, probing, tested)
        _file(arguments, name).write_text(json.dumps(row))


def _fitted(session: Session, kinds: dict, probing: Any, tested: dict) -> dict[str, Any]:
    """Fits nasa+ on some kinds of pairs and asks those of every kind; the model stays untouched."""
    start = time.process_time()
    samples = rendered(session, kinds, probing)
    heads = choose_by_attribution(session, samples.tuning, probing)
    slices, _ = joint_slices(session.model, heads, session.settings)
    before = {where: read_weight_rows(session.model, where) for where in slices}
    history, _ = tune_jointly(session, samples, heads)
    seconds = time.process_time() - start
    found, free = _asked(session, tested), _free(session)
    for where, rows in before.items():
        write_rows(session.model, where, rows)
    return {
        "pairs": len(samples.tuning),
        "cpu_seconds": seconds,
        "epochs": [record.as_row() for record in history],
        "kinds": found,
        "free": free,
    }


def _tested(arguments: Namespace) -> dict[str, list[Pair]]:
    pool = load_facts("development")
    facts = pairs_of(sample(pool, 4 * arguments.pairs, 0), pool, 0)
    return {"facts": facts} | anchors(dict.fromkeys(KINDS, arguments.pairs), 0, "development")


def _free(session: Session) -> float:
    """Returns the share of free answers that are right."""
    answers = ask_and_judge(session, sample(load_facts("development"), FREE, 1))
    return sum(one.known for one in answers) / len(answers)


def _asked(session: Session, tested: dict[str, list[Pair]]) -> dict[str, Any]:
    """Returns accuracy, AUC and share of Yes of each kind, and the number of its questions."""
    settings, rows = session.settings, {}
    for kind, pairs in tested.items():
        examples: list[BinaryExample] = [one for pair in pairs for one in (pair.right, pair.wrong)]
        scores = score_as(session.model, session.tokenizer, examples, settings, (), record=False)
        odds = torch.from_numpy(log_odds(scores.p_positive, scores.p_negative)).reshape(-1, 2)
        said = torch.stack([odds, torch.zeros_like(odds)], dim=-1)  # [pairs, right and wrong, 2]
        rows[kind] = {"n": len(examples), **verdicts(said)._asdict()}
    return rows


def _file(arguments: Namespace, name: str) -> Path:
    return Path(arguments.out / f"{name.replace(' ', '-')}.{arguments.seed}.json")


def _left_out(name: str) -> list[str]:
    return name.removeprefix(WITHOUT).split(",") if name.startswith(WITHOUT) else []


def _lines(found: dict[str, Any]) -> list[str]:
    """A row a kind: accuracy, AUC and share of Yes, untouched, with all kinds and without it."""
    rows = []
    for kind, own in found[UNTOUCHED]["kinds"].items():
        names = [UNTOUCHED, WHOLE, *(name for name in found if kind in _left_out(name))]
        cells = [_cell(found[name]["kinds"][kind]) for name in names]
        rows.append([f"{kind} ({own['n']})", *cells, *[""] * (3 - len(cells))])
    free = [f"{found[name]['free']:.2f}" for name in (UNTOUCHED, WHOLE)]
    rows.append(["free answers", *free, ""])
    return table(["kind", UNTOUCHED, WHOLE, "without it"], rows)


def _cell(figures: dict[str, float]) -> str:
    return " ".join(f"{figures[name]:.3f}" for name in ("accuracy", "auc", "yes_rate"))


if __name__ == "__main__":
    main()
