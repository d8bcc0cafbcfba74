"""The whole check of the paper, on a tiny model that is reproduced in a minute."""

import csv
import json
from pathlib import Path

import pytest

import tiny
import upstream
from cases import known_rows, sets
from fault_tools import done
from paper_literal import row_checks, shot_checks, tuning_checks
from paper_literal.findings import Findings
from paper_literal.model import Literal
from paper_literal.model_checks import ModelChecks
from paper_literal.produced import AFTER, BEFORE, Produced

pytestmark = pytest.mark.long
PAPER = """
Prompt I (Positive Sample Transformation)

You are given a question and you MUST answer Yes or No. Question: $\\{question\\}$ Is the answer \
$\\{label\\}$? Answer:

Prompt II (Inquiring Parametric Knowledge)

You MUST answer shortly the given question based on your knowledge. Question: \
$\\{question\\}$ Answer:

Table 10: Accuracy and F1.

Type\tDataset\tLLaMA\t+ NASA
True/False\tStrategyQA\t0.855 / 0.828\t0.866 / 0.853
Correct/Wrong\tStrategyQA\t0.852 / 0.838\t0.846 / 0.840

Instruction in NASA
You are given a question and you MUST answer Yes or No.
Instruction type A
You are asked a question that demands a clear Yes or No answer.
Instruction type B
A question is posed to you, and you are obligated to answer either Yes or No.
"""
SETTINGS = "bootstrap_samples=20 answer_tokens=6 free_answer_tokens=6 n=3 k=8 epochs=2 rho=-100.0"
SETTINGS += " learning_rate=1e-2 consistency=0.5 min_true_positives=1 direction=negative"
NAMES = {
    "strategyqa": "strategyqa_train",
    "musique": "musique_ans_dev",
    "gsm8k": "gsm8k_test",
    "math": "math_test",
    "ar-lsat": "ar_lsat_TrainingData",
}


def several(rows: list[dict]) -> list[dict]:
    """The rows fourteen times, each time another question."""
    found = []
    for number in range(14):
        text = json.dumps(rows).replace("?", f" {number}?")
        text = text.replace("Three sit", f"In hall {number} three sit")
        for key in ("qid", "id"):
            text = text.replace(f'"{key}": "', f'"{key}": "{number}')
        found += json.loads(text)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Produced, Path, Path]:
    """A reproduction of a tiny Llama that knows the probing data, its data sets, and the paper."""
    root = tmp_path_factory.mktemp("world")
    model, tokenizer = tiny.build_model("llama", seed=3), tiny.build_tokenizer()
    model.save_pretrained(root / "tiny")
    tokenizer.save_pretrained(root / "tiny")
    data = root / "data"
    data.mkdir()
    (data / "hotpotqa_dev.json").write_text(json.dumps(known_rows(model, tokenizer)))
    with pytest.MonkeyPatch.context() as patch:
        for name, stem in NAMES.items():
            patch.setitem(upstream.FILES, name, several(upstream.FILES[name]))
            written = upstream.write(root, name)
            written.rename(data / f"{stem}{written.suffix}")
    paper = root / "paper.txt"
    paper.write_text(PAPER)
    command = ["reproduce", "all", "--model", root / "tiny", "--data-dir", data, "--limit", "12"]
    done(*map(str, command), "--out", str(root / "out"), *sets(SETTINGS.split()))
    return Produced(root / "out"), data, paper


def test_everything_agrees(world: tuple[Produced, Path, Path], tmp_path: Path) -> None:
    made, data, paper = world
    folder, findings = made.facts["model"]["name"], Findings(quiet=True)
    assert made.adapter()
    forms = {BEFORE: Literal.load(folder), AFTER: Literal.load(folder, made.adapter())}
    checks = ModelChecks(made, forms[BEFORE], data, paper, 2)
    checks.check(findings, forms)
    row_checks.check(made, findings, data)
    tuning_checks.check(made, Literal.load(folder), checks.prompt_one, 2, findings)
    shot_checks.check(made, forms[BEFORE], checks.prompt_one, data, tmp_path / "tasks", findings)
    assert not [one.line() for one in findings.made if one.verdict != "ok"]
    items = {one.item for one in findings.made}
    assert {f"Table {number}" for number in (*range(1, 13), *range(16, 21))} <= items
    assert {f"Figure {number}" for number in (1, 2, 3, 5, 6, 7)} <= items
    assert {"Eq. 1", "Eq. 2-4", "Algorithm 1", "Section 4.3", "Prompt I", "Prompt II"} <= items


@pytest.mark.parametrize(
    ("name", "column", "item"),
    [("table-1", "pearson", "Table 1"), ("table-17", "shift_ratio", "Table 17")],
)
def test_an_altered_figure_is_found(
    name: str, column: str, item: str, world: tuple[Produced, Path, Path]
) -> None:
    path = world[0].folder / f"{name}.csv"
    before = path.read_text()
    rows = list(csv.DictReader(before.splitlines()))
    place = next(i for i, row in enumerate(rows) if row["source"] == "ours" and row[column])
    rows[place][column] = str(float(rows[place][column]) + 0.01)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    findings = Findings(quiet=True)
    row_checks.check(world[0], findings, world[1])
    path.write_text(before)
    assert [one.item for one in findings.differ] == [item]
