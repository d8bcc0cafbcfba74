"""Tries settings of Algorithm 1 on the embedded model and measures them on the development split.

The questions of the probing split are asked once; then each combination of settings is tuned from
the same untouched weights and evaluated on yes/no facts of the development split, which shares no
subject with them. The test split is not touched. A finished combination is not run again.

    python benchmarks/settings_sweep.py --out runs/sweep.jsonl \\
        --try '{"learning_rate": 1e-4, "epochs": 6}' --try '{"learning_rate": 4e-4, "n": 14}'
"""

import argparse
import json
import time
from pathlib import Path

from sklearn.metrics import roc_auc_score

from nasalign.adapters.adapter import Adapter
from nasalign.config import load_preset
from nasalign.data.binary import sample, to_binary
from nasalign.data.records import Question, load_facts
from nasalign.data.user_file import load_file
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.head_rows.rows import head_slices, read_weight_rows
from nasalign.io.files import append_jsonl, read_json, write_json
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint, load
from nasalign.nasa.decisions import HeadRecord
from nasalign.nasa.head_tuning import choose_heads, tune
from nasalign.nasa.knowledge import Parametric, ask_and_judge
from nasalign.nasa.probing import build_probing_set
from nasalign.progress import Quiet
from nasalign.run import Run
from nasalign.session import Session


class Printer(Quiet):
    """Prints sentences and shows no bars."""

    def say(self, text: str) -> None:
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a combination")
    parser.add_argument("--try", dest="tries", action="append", default=[], type=json.loads)
    parser.add_argument(
        "--eval", type=Path, action="append", default=[], help="further yes/no file"
    )
    parser.add_argument("--questions", type=int, default=150, help="evaluated of each data set")
    arguments = parser.parse_args()

    model, tokenizer = load(arguments.model)
    preset = load_preset(arguments.preset)
    pool = load_facts()
    sets = {"development": sample(load_facts("development"), arguments.questions, 0)}
    for path in arguments.eval:
        sets[path.stem] = sample(load_file(path).records, arguments.questions, 0)
    examples = {name: to_binary(records, 0, pool).examples for name, records in sets.items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    finished = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = [json.loads(line)["changes"] for line in finished]
    answers = arguments.out.with_suffix(f".answers-{preset.seed}.json")

    for changes in [{"untouched": True}, *arguments.tries]:
        if changes in done:
            continue
        print(json.dumps(changes), flush=True)
        start, history = time.perf_counter(), []
        if "untouched" not in changes:
            settings = preset.replace(changes)
            asked = sample(load_facts("probing"), settings.probing_questions, settings.seed)
            parametric = _answers(answers, model, tokenizer, asked, settings)
            session = Session(model, tokenizer, settings, Run(reporter=Printer()))
            probing = build_probing_set(session, parametric)
            heads = choose_heads(session, probing)
            geometry = HeadGeometry.of(model)
            slices = [head_slices(geometry, head.layer, head.head, "group") for head in heads]
            before = {where: read_weight_rows(model, where) for part in slices for where in part}
            start = time.perf_counter()
            history = tune(session, probing, heads)
        seconds = time.perf_counter() - start
        row = {"changes": changes, "seconds": round(seconds, 1)}
        row["kept"] = [(r.layer, r.head) for r in history if isinstance(r, HeadRecord) and r.kept]
        for name, part in examples.items():
            row[name] = _figures(run_evaluation(model, tokenizer, part, preset))
        if history:
            Adapter.between(before, model, fingerprint(model)).revert(model)
        append_jsonl(arguments.out, row)
        print(json.dumps(row), flush=True)


def _answers(path: Path, model, tokenizer, questions: list[Question], settings) -> list[Parametric]:
    """Free answers to the questions, asked once and kept beside the results."""
    kept = read_json(path) if path.exists() else {}
    if not all(question.question in kept for question in questions):
        for item in ask_and_judge(Session(model, tokenizer, settings), questions):
            kept[item.question.question] = (item.prediction, item.known)
        write_json(path, kept)
    return [Parametric(question, *kept[question.question]) for question in questions]


def _figures(evaluation: Evaluation) -> dict[str, float]:
    metrics = evaluation.metrics(bootstrap_samples=500)
    scores, examples = evaluation.scores, evaluation.examples
    ratio = (scores.p_positive / scores.p_negative).log()
    figures = {name: round(metrics[name], 4) for name in ("accuracy", "recall", "precision", "f1")}
    figures["auc"] = round(float(roc_auc_score([item.label for item in examples], ratio)), 4)
    return figures | {"yes_rate": round(metrics["yes_rate"], 4), "nas": round(metrics["nas"], 2)}


if __name__ == "__main__":
    main()
