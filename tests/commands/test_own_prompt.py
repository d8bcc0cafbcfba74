"""A judge as a user has it: their prompt, words and labelled file, through every command."""

import csv
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cases
import tiny
from nasalign.commands import app
from nasalign.io.files import read_json, read_jsonl

JUDGE = '''
system = "Pruefe die Aussage. Antworte nur mit Ja oder Nein."
user = """
Text: {beleg}
Aussage: {aussage}
Antwort:
"""
words = "Ja/Nein"
'''
QUICK = ["epochs=1", "n=2", "k=8", "learning_rate=1e-2", "bootstrap_samples=20"]
QUICK += ["side_effect_questions=0", "joint_epochs=1", "known_pairs=12", "kl_weight=0"]
QUICK += ["joint_heads=3", "joint_learning_rate=1e-2"]
FILE = ["--template", "judge.toml", "--columns", "label=urteil", "--group-by", "quelle"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    (folder / "judge.toml").write_text(JUDGE)
    (folder / "bare.txt").write_text("{beleg} {aussage} Stimmt das?")
    with (folder / "claims.csv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["aussage", "beleg", "urteil", "quelle", "notiz"], delimiter=";"
        )
        writer.writeheader()
        for row in range(240):
            writer.writerow(
                {
                    "aussage": f"word{row} steht in Zeile {row}",
                    "beleg": f"In Zeile {row} steht word{row if row % 3 else row + 1}.",
                    "urteil": "ja" if row % 3 else "nein",
                    "quelle": f"buch {row // 4}",
                    "notiz": "x",
                }
            )
    tiny.save(folder / "model", seed=cases.AFFIRMS)
    return folder


def run(world: Path, *words: str, settings: list[str] = QUICK) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*words, *cases.sets(settings), "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture(autouse=True)
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


@pytest.fixture(scope="module")
def tuned(world: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        return run(
            world,
            "align",
            "model",
            "--data",
            "claims.csv",
            "--out",
            "runs/one",
            *FILE,
            "--set",
            "direction=auto",
        )


def test_labelled_rows_are_tuned_on_and_split_by_group(world: Path, tuned: dict[str, Any]) -> None:
    facts = read_json(world / "runs/one/run.json")
    used = read_jsonl(world / "runs/one/labelled.jsonl")
    after = read_jsonl(world / "runs/one/eval/claims.after.jsonl")
    assert facts["settings"]["vocabulary"] == "Ja/Nein"
    assert "{beleg}" in facts["settings"]["template"]
    groups = [
        {int(re.findall(r"word(\d+)", row["question"])[-1]) // 4 for row in rows}
        for rows in (used, after)
    ]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert {row["label"] for row in used} == {True, False}
    assert tuned["datasets"]["claims"]["after"]["n"] == len(after)
    assert facts["coverage"].keys() == {"claims before", "claims after"}
    report = (world / "runs/one/report.html").read_text()
    assert "Ja" in report


def test_the_prompt_is_that_of_the_template(world: Path, tuned: dict[str, Any]) -> None:
    shown = read_json(world / "runs/one/attention.json")["examples"][0]
    text = "".join(shown["tokens"])
    assert "nur mit Ja oder Nein." in text.replace("\u2581", " ")
    assert "Aussage:" in text


def test_the_adapter_is_asked_as_its_run_was(world: Path, tuned: dict[str, Any]) -> None:
    there = world / "runs/one/adapter"
    if not there.is_dir():
        pytest.skip("no head was kept")
    told = run(
        world,
        "ask",
        "model",
        "--adapter",
        "runs/one",
        "--column",
        "beleg=Eis ist kalt.",
        "--column",
        "aussage=Eis ist warm.",
        settings=[],
    )
    assert set(told) == {"untouched", "aligned"}
    assert 0 < told["aligned"]["coverage"] < 1
    wrong = CliRunner().invoke(app, ["ask", "model", "Ist Eis kalt?", "--adapter", "runs/one"])
    assert wrong.exit_code == 2
    assert "beleg" in wrong.output


def test_what_was_tuned_on_is_not_evaluated_with_the_adapter(
    world: Path, tuned: dict[str, Any]
) -> None:
    if not (world / "runs/one/adapter").is_dir():
        pytest.skip("no head was kept")
    found = run(
        world,
        "evaluate",
        "model",
        "--data",
        "claims.csv",
        "--adapter",
        "runs/one",
        "--columns",
        "label=urteil",
    )
    used = read_jsonl(world / "runs/one/labelled.jsonl")
    assert found["n"] == 240 - len(used)


def test_a_template_without_the_words_takes_nasa_plus_alone(world: Path) -> None:
    bare = ["--template", "bare.txt", "--words", "Ja/Nein", *FILE[2:]]
    refused = CliRunner().invoke(
        app, ["align", "model", "--data", "claims.csv", "--out", "runs/no", *bare]
    )
    assert refused.exit_code == 2
    assert "does not name both Ja and Nein" in refused.output
    found = run(
        world,
        "align",
        "model",
        "--data",
        "claims.csv",
        "--method",
        "nasa+",
        "--out",
        "runs/two",
        *bare,
    )
    assert "nas" not in found["datasets"]["claims"]["before"]
    assert 0 < found["datasets"]["claims"]["before"]["coverage"] < 1
    assert (world / "runs/two/report.html").exists()


def test_diagnose_evaluate_and_the_harness_take_it(world: Path) -> None:
    told = run(world, "diagnose", "model", "--data", "claims.csv", *FILE)
    assert told["metrics"]["n"] > 20
    found = run(
        world,
        "evaluate",
        "model",
        "--data",
        "claims.csv",
        *FILE,
        "--harness-out",
        "tasks",
    )
    assert found["n"] == 240
    documents = read_jsonl(world / "tasks/nasalign_claims.jsonl")
    assert "Aussage: word0 steht in Zeile 0" in documents[0]["text"]
    assert "nur mit Ja oder Nein." in documents[0]["text"]


def test_one_date_a_run(world: Path, tuned: dict[str, Any]) -> None:
    facts = read_json(world / "runs/one/run.json")
    assert facts["settings"]["date"] == date.today().isoformat()


@pytest.mark.long
def test_rows_are_compared_on_the_prompt_and_the_file(world: Path) -> None:
    names = ["untouched", "threshold", "contextual", "domain-context", "batch"]
    only = ["--only", ",".join(names)]
    found = run(
        world, "compare", "model", "--data", "claims.csv", *FILE, *only, "--out", "runs/rows"
    )
    assert {row["name"]: row.get("error") for row in found["rows"]} == dict.fromkeys(names, "")
    about = found["datasets"]["claims"]
    assert about["n"] > 20
    for row in found["rows"]:
        assert 0 <= row["datasets"]["claims"]["figures"]["accuracy"][0] <= 1, row["name"]
    settings = read_json(world / "runs/rows/run.json")["settings"]
    assert settings["vocabulary"] == "Ja/Nein"
    assert "{beleg}" in settings["template"]
