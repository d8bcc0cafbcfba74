"""`evaluate --harness-out`: lm_eval agrees by the command that is shown."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import upstream
from nasalign.commands import app
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.data.sources import SOURCES
from nasalign.harness.answers import log_probabilities, verdict
from nasalign.io.files import read_json, read_jsonl
from tiny_pair import make_pair

needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm_eval is not installed: pip install lm_eval"
)
QUICK = ["--limit", "10", "--set", "sides=both", "--set", "bootstrap_samples=20"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path)


@pytest.fixture
def model(pair: tuple[Path, Path]) -> Path:
    return pair[0]


def evaluate(*arguments: object, code: int = 0) -> dict:
    command = ["evaluate", *map(str, arguments), *QUICK, "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    if code:
        return {"said": " ".join(result.stderr.split())}
    return json.loads(result.stdout.strip().splitlines()[-1]) | {"said": result.stderr}


def lm_eval(command: str, cwd: Path) -> tuple[dict, list[dict]]:
    """Runs a command of lm_eval without a network; returns its figures and its samples."""
    first, *arguments = shlex.split(command)
    assert first == "lm_eval"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [
            *[sys.executable, "-P", "-m", "lm_eval", *arguments],
            *["--log_samples", "--output_path", "said"],
        ],
        cwd=cwd,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [results], [samples] = cwd.glob("said/*/results_*.json"), cwd.glob("said/*/samples_*.jsonl")
    figures = read_json(results)["results"]["nasalign_facts"]
    return figures, sorted(read_jsonl(samples), key=lambda sample: sample["doc_id"])


def same(figures: dict, samples: list[dict], ours: dict, rows: list[dict]) -> None:
    """The figures and samples of lm_eval are those of our evaluation, within float tolerance."""
    for theirs, name in (("acc", "accuracy"), ("f1", "f1"), ("yes_rate", "yes_rate")):
        assert figures[f"{theirs},none"] == pytest.approx(ours[name], abs=1e-12)
    resps = [[(float(ll), likeliest) for ll, likeliest in s["filtered_resps"]] for s in samples]
    docs = [sample["doc"] for sample in samples]
    pairs = list(zip(docs, resps, strict=True))
    assert [verdict(*pair) for pair in pairs] == [row["verdict"] for row in rows]
    logs = [log_probabilities(*pair) for pair in pairs]
    ratios = [row["p_yes"] / row["p_no"] for row in rows]
    np.testing.assert_allclose([np.exp(yes - no) for yes, no in logs], ratios, rtol=1e-3)


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_is_a_task(name: str, model: Path, tmp_path: Path) -> None:
    more = ["--data", name, "--source", upstream.write(tmp_path, name), "--split", "all"]
    metrics = evaluate(model, *more, "--harness-out", tmp_path / "tasks")
    documents = read_jsonl(tmp_path / "tasks" / f"{metrics['harness']['task']}.jsonl")
    assert len(documents) == metrics["n"] > 0


@pytest.mark.long
@needs_lm_eval
def test_a_merged_model_is_the_same_to_the_command(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model, adapter = pair
    run, tasks, elsewhere = tmp_path / "run", tmp_path / "tasks", tmp_path / "else where"
    ours = evaluate(model, "--adapter", adapter, "--harness-out", tasks, "--out", run)
    command = ours["harness"]["command"]
    assert command in ours["said"]
    assert f"pretrained={model},peft={adapter},dtype=float32" in command
    merged = tmp_path / "merged"
    export_job(Job(str(model)), adapter, merged, "merged")
    shutil.rmtree(adapter)
    shutil.move(tasks, elsewhere)  # a task can be taken to another machine
    words = shlex.split(command)
    words[words.index(str(tasks))] = str(elsewhere)
    command = shlex.join(words).replace(f"{model},peft={adapter}", str(merged))
    figures, samples = lm_eval(command, tmp_path)
    same(figures, samples, ours, read_jsonl(run / "eval" / "facts.after.jsonl"))


@needs_lm_eval
def test_the_arguments_that_are_shown_take_the_adapter(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    model, adapter = pair
    run, tasks = tmp_path / "run", tmp_path / "tasks"
    more = ["--harness-out", tasks, "--out", run, "--set", "chat=false"]
    ours = evaluate(model, "--adapter", adapter, *more)
    words = shlex.split(ours["harness"]["command"])
    monkeypatch.setattr(evaluator, "add_env_info", id)  # takes seconds
    result = evaluator.simple_evaluate(
        "hf",
        model_args=words[words.index("--model_args") + 1],
        tasks=[words[words.index("--tasks") + 1]],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        bootstrap_iters=0,
    )
    figures, samples = result["results"]["nasalign_facts"], result["samples"]["nasalign_facts"]
    same(figures, samples, ours, read_jsonl(run / "eval" / "facts.after.jsonl"))


def test_a_scenario_has_a_task_of_its_own_which_is_not_overwritten(
    model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tasks"
    more = ["--harness-out", folder, "--set", "scenario=unsure"]
    found = evaluate(model, *more)["harness"]
    assert found["task"] == "nasalign_facts_unsure"
    rows = read_jsonl(folder / f"{found['task']}.jsonl")
    assert {word for row in rows for word in row["words"]} == {0, 1, 2}
    assert "is there already" in evaluate(model, *more, code=2)["said"]
    evaluate(model, *more, "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--decoder", "generate"], "take the decoder logits"),
        (["--set", "scenario=cot"], "another scenario than cot"),
        (["--scenario", "unsure"], "take --set scenario=NAME"),
    ],
)
def test_what_no_task_can_ask_is_refused_at_once(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    said = evaluate("owner/no-model", "--harness-out", tmp_path / "tasks", *arguments, code=2)
    assert sentence in said["said"]
    assert not (tmp_path / "tasks").exists()
