"""The check of the paper agrees with what the product made, and finds a value that was altered."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

import nasalign
from paper_literal import row_checks, statistics, text_checks, tuning
from paper_literal.findings import Findings
from paper_literal.model import Literal, nas_of_heads
from paper_literal.model_checks import by_head, chances_of
from paper_literal.produced import SETS, Produced
from paper_literal.prompts import Wording, prompt_one, tokens_of

ROWS = [  # verdict, label, p_yes, p_no, model NAS: TP, TN, FN, FP
    ("positive", True, 0.75, 0.2, 10.0),
    ("negative", False, 0.1, 0.85, 40.0),
    ("negative", True, 0.3, 0.65, 30.0),
    ("positive", False, 0.55, 0.45, 20.0),
]
# Bins of a tenth: gaps 1 - 0.75, 1 - 0.85, 0 - 0.65 and 0 - 0.55, of one answer in four each.
ECE = (0.25 + 0.15 + 0.65 + 0.55) / 4


@pytest.fixture
def made(tmp_path: Path) -> Produced:
    """A reproduction of Tables 3, 6 and 8 and Figure 2, with four verdicts a data set."""
    keys = ("verdict", "label", "p_yes", "p_no", "nas")
    for form in ("untouched", "nasa"):
        folder = tmp_path / "model" / form
        folder.mkdir(parents=True)
        for name in SETS:
            lines = [
                json.dumps(dict(zip(keys, row, strict=True)) | {"question": str(place)})
                for place, row in enumerate(ROWS)
            ]
            (folder / f"{name}.plain.jsonl").write_text("\n".join(lines))
    sizes = {"evaluation_questions": 400, "study_questions": 500}
    facts = {"settings": {"consistency": 0.9, "judge": "match"} | sizes}
    (tmp_path / "model" / "study.json").write_text(json.dumps(facts))
    main = {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5, "nas": 25.0, "n": 4}
    sides = [
        {"source": "ours", "dataset": name, "method": method}
        for name in SETS
        for method in ("baseline", "NASA")
    ]
    write(tmp_path, "table-3", [side | main for side in sides[:4]])
    write(tmp_path, "table-6", [side | {"ece": ECE, "n": 4} for side in sides])
    counts = {"positives": 2, "negatives": 2, "total": 4}
    write(tmp_path, "table-8", [side | counts for side in sides[::2]])
    bars = {("TP", 7), ("TN", 8), ("FN", 6), ("FP", 5)}  # 0.75 is in (0.7, 0.8]
    figure = [
        side | {"kind": kind, "confidence": (b + 1) / 10, "answers": int((kind, b) in bars)}
        for side in sides[:1]
        for kind in ("TP", "FP", "TN", "FN")
        for b in range(10)
    ]
    write(tmp_path, "figure-2", figure)
    (tmp_path / "musique.json").write_text("[]")  # the data, of which aliases are read
    return Produced(tmp_path)


def write(folder: Path, name: str, rows: list[dict]) -> None:
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def verdicts(made: Produced) -> dict[str, str]:
    findings = Findings(quiet=True)
    row_checks.check(made, findings, made.folder)
    return {
        one.item: one.verdict
        for one in findings.made
        if one.item in ("Table 3", "Table 6", "Table 8", "Figure 2")
    }


def test_agrees_with_figures_worked_out_by_hand(made: Produced) -> None:
    assert set(verdicts(made).values()) == {"ok"}


@pytest.mark.parametrize(
    ("item", "old", "new"),
    [
        ("Table 3", "25.0", "25.1"),
        ("Table 6", str(ECE), str(ECE + 0.001)),
        ("Table 8", "musique,baseline,2,2,4", "musique,baseline,3,1,4"),
        ("Figure 2", "TP,0.8,1", "TP,0.8,2"),
    ],
)
def test_finds_an_altered_value(made: Produced, item: str, old: str, new: str) -> None:
    path = made.folder / f"{item.lower().replace(' ', '-')}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert [name for name, verdict in verdicts(made).items() if verdict == "differs"] == [item]


def test_selection_overlap_and_shifts_by_hand() -> None:
    nas = [[[5.0, 4.0, 1.0]]] * 9 + [[[0.0, 9.0, 8.0]]]
    assert statistics.select(nas, k=2, n=3, consistency=0.9) == [(0, 0), (0, 1)]  # 4.5 and 4.5
    assert statistics.select(nas, k=2, n=3, consistency=1.0) == [(0, 1)]
    assert statistics.overlap([[(0, 0), (0, 1)], [(0, 1)]]) == 1.0
    old = [{"verdict": "negative", "label": True, "cell": ("Det-T", "High")}] * 2
    new = [{"verdict": "positive"}, {"verdict": "negative"}]
    assert statistics.shifts(old, new, "FN")["Det-T", "High"] == 0.5
    assert statistics.composition(old)["Det-T", "High"] == 1.0


def test_the_upper_edge_of_a_bin_is_in_the_next() -> None:
    # 0.2 and 0.25 are in one bin: 1 right of 2 against a mean of 0.225. 1 is in the last bin.
    assert statistics.calibration_error([0.2, 0.25], [True, False], 10) == pytest.approx(0.275)
    assert statistics.calibration_error([0.95, 1.0], [True, False], 10) == pytest.approx(0.475)


def epoch(alpha: float, beta: float) -> dict:
    where = {"layer": 0, "head": 0, "yes_share": 0.0}
    return {"record": "epoch", "alpha": alpha, "beta": beta} | where


def outcome(kept: bool, halted: str = "") -> dict:
    start = {"alpha_before": 10.0, "beta_before": 10.0}
    return {"record": "head", "layer": 0, "head": 0, "kept": kept, "halted": halted} | start


@pytest.mark.parametrize(
    ("epochs", "tau", "expected"),
    [
        ([(9, 9), (8, 8), (7, 7)], 0.0, tuning.Decision(3, True, False)),
        ([(8, 8), (9, 8)], 0.0, tuning.Decision(2, True, False)),  # alpha rose
        ([(8, 8), (11, 8)], 0.0, tuning.Decision(2, False, False)),  # and is above its start
        ([(0.4, 8)], 0.0, tuning.Decision(1, True, False)),  # below rho
        ([(9, 4), (8, 3), (7, 2)], 5.0, tuning.Decision(3, True, True)),  # below tau
        ([(8, 4), (11, 4)], 5.0, tuning.Decision(2, False, True)),  # cancelled, and halts
    ],
)
def test_replay_of_algorithm_1(
    epochs: list[tuple[float, float]], tau: float, expected: tuning.Decision
) -> None:
    rows = [*(epoch(*one) for one in epochs), outcome(expected.kept)]
    limits = {"T": 3, "rho": 0.5, "tau": tau, "share": 0.5, "by_model": False}
    decided, wrong = tuning.replay(rows, ({(0, 0): 10.0}, 10.0), limits)
    assert decided == {(0, 0): expected}
    assert not wrong
    rows.insert(len(epochs), epoch(0.6, 0.6))  # after the epochs have ended
    assert tuning.replay(rows, ({(0, 0): 10.0}, 10.0), limits)[1]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([(11, 9), (10.5, 8), (10.4, 7)], tuning.Decision(3, True, False)),  # alpha has no say
        ([(9, 11)], tuning.Decision(1, False, False)),  # beta is above its start
    ],
)
def test_replay_where_model_nas_alone_cancels(
    epochs: list[tuple[float, float]], expected: tuning.Decision
) -> None:
    rows = [*(epoch(*one) for one in epochs), outcome(expected.kept)]
    limits = {"T": 3, "rho": 0.5, "tau": 0.0, "share": 0.5, "by_model": True}
    assert tuning.replay(rows, ({(0, 0): 10.0}, 10.0), limits) == ({(0, 0): expected}, [])


def test_nas_and_probabilities_of_a_tiny_model_are_those_of_the_product(saved: Path) -> None:
    literal = Literal.load(str(saved))
    wording = Wording("You are given a question and you MUST answer Yes or No.")
    row = {"question": "What is the capital of France?", "answer": "No"}
    tokens = tokens_of(literal.tokenizer, prompt_one(wording, row, "Paris is."), wording)
    layers, chance = literal.run(tokens.ids)
    example = nasalign.BinaryExample(**row, label=False, context="Paris is.")
    scores = nasalign.score(*nasalign.load(str(saved)), [example])
    values = [*by_head(scores.nas[0].tolist(), nas_of_heads(layers, tokens), "heads")]
    values += [*chances_of(literal, found(scores), chance, wording, "words")]
    swapped = replace(tokens, yes=tokens.no, no=tokens.yes)
    others = [*by_head(scores.nas[0].tolist(), nas_of_heads(layers, swapped), "heads")]
    findings = Findings(quiet=True)
    findings.close("Eq. 1", "as printed", values, 1e-4)
    findings.close("Eq. 1", "with the words swapped", others, 1e-4)
    assert [one.verdict for one in findings.made] == ["ok", "differs"]


def found(scores: nasalign.Scores) -> dict:
    """The row of a verdict, as the product writes it."""
    chances = {"p_yes": float(scores.p_positive[0]), "p_no": float(scores.p_negative[0])}
    return chances | {"verdict": scores.verdicts[0]}


def test_a_printed_figure_that_is_altered_is_found(tmp_path: Path) -> None:
    paper = tmp_path / "paper.txt"
    models = "Model\tLLaMA\tMistral\nPearson\t0.5\t0.3\nSpearman\t0.4\t0.2\n"
    paper.write_text(f"Table 1: Correlations (-1 to 1).\n\n{models}\n")
    rows = [
        {"source": "paper", "model": "LLaMA", "pearson": "0.5", "spearman": "0.4"},
        {"source": "paper", "model": "Mistral", "pearson": "0.3", "spearman": "0.2"},
    ]
    for changed, verdict in (("0.2", "ok"), ("0.21", "differs")):
        rows[1]["spearman"] = changed
        write(tmp_path, "table-1", rows)
        findings = Findings(quiet=True)
        text_checks.compare_printed(1, paper, Produced(tmp_path), findings)
        assert findings.made[0].verdict == verdict
