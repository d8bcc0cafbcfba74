"""Several scenarios are evaluated on the same examples, and one that does not fit is refused."""

from pathlib import Path

import pytest

import jobs
import upstream
from fault_tools import done, invoke, printed, refused
from nasalign.commands import prepared
from nasalign.commands.align import align_job
from nasalign.commands.diagnose import diagnose_job
from nasalign.commands.evaluate import evaluate_job, scenarios_job
from nasalign.commands.job import Job
from nasalign.config import Scenario
from nasalign.errors import DataError, NasAlignError, PromptError
from nasalign.evaluation import examples
from nasalign.evaluation.metrics import LEAN
from nasalign.io.files import read_json, read_jsonl
from nasalign.nasa import knowledge
from nasalign.reporting.console_tables import scenarios_table
from nasalign.run import Run

QUICK = {"bootstrap_samples": 50, "answer_tokens": 4, "reasoning_tokens": 6, "sides": "both"}


class Listener(Run):
    """A run that keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.reporter.say = self.said.append  # type: ignore[method-assign]


def job(
    model: str, tmp_path: Path, name: str, folder: Path | None = None, **changes: object
) -> Job:
    sources = {name: [upstream.write(tmp_path, name)]}
    changes = QUICK | changes
    return jobs.make(model, name, sources=sources, run=Listener(), folder=folder, changes=changes)


def test_the_file_has_every_scenario_by_what_the_model_knows(model: str, tmp_path: Path) -> None:
    folder, asked = tmp_path / "run", ("plain", "unsure", "negated")
    result = scenarios_job(job(model, tmp_path, "gsm8k", folder), asked, None, knowledge=True)
    written = read_json(folder / "scenarios.json")
    assert set(written) == {"scenarios", "decoder", "judge", "n"}
    assert (written["decoder"], written["judge"], written["n"]) == ("logits", "match", 4)
    assert list(written["scenarios"]) == [*asked]
    page = (folder / "report.html").read_text()
    section = page[page.index('<section id="subsets">') :]
    for scenario in asked:
        assert f'<th scope="row">{scenario}</th>' in section
    assert "unfinished" not in page.lower()
    for scenario in asked:
        figures = written["scenarios"][scenario]
        rows = read_jsonl(folder / "eval" / f"gsm8k.{scenario}.before.jsonl")
        assert set(LEAN) < set(figures["all"])
        assert set(LEAN) < set(figures["all"]["intervals"])
        said = [row["verdict"] for row in rows]
        assert figures["all"]["no_rate"] == said.count("negative") / 4
        assert figures["all"]["unsure_rate"] == said.count("unsure") / 4
        parts = figures["by_knowledge"]
        assert sum(part["n"] for part in parts.values()) == figures["all"]["n"] == 4
        for kind, part in parts.items():
            mine = [row for row in rows if row["knowledge"] == kind]
            yes = sum(row["verdict"] == "positive" for row in mine)
            assert (part["n"], part["yes_rate"]) == (len(mine), yes / len(mine))
    plain, negated = (
        read_jsonl(folder / "eval" / f"gsm8k.{scenario}.before.jsonl")
        for scenario in ("plain", "negated")
    )
    for one, other in zip(plain, negated, strict=True):
        assert (one["id"], one["answer"], one["label"]) == (
            *(other["id"], other["answer"], not other["label"]),
        )
    table = scenarios_table("gsm8k", result)
    assert table.row_count == sum(
        1 + len(result["scenarios"][scenario]["by_knowledge"]) for scenario in asked
    )
    assert "share of I don't know" in [column.header for column in table.columns]


def test_a_scenario_alone_has_the_same_figures(model: str, tmp_path: Path) -> None:
    names: tuple[Scenario, ...] = ("plain", "unsure", "negated", "cot")
    several = scenarios_job(job(model, tmp_path, "gsm8k", decoder="generate"), names, None)
    for name in names:
        alone = evaluate_job(job(model, tmp_path, "gsm8k", decoder="generate", scenario=name), None)
        figures = several["scenarios"][name]["all"]
        assert {key: figures[key] for key in alone if key != "intervals"} == {
            key: value for key, value in alone.items() if key != "intervals"
        }
        assert ("unsure_rate" in alone) == (name == "unsure")


def test_the_scenario_context_gives_what_the_setting_leaves_out(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str | None]] = []
    plain_run = examples.run_evaluation

    def spy(model: object, tokenizer: object, asked: list, *rest: object):
        seen.append({example.context for example in asked})
        return plain_run(model, tokenizer, asked, *rest)

    monkeypatch.setattr(examples, "run_evaluation", spy)
    one = job(model, tmp_path, "musique", context="none")
    scenarios_job(one, ("plain", "context"), None)
    assert seen == [{None}, {"[Title: Ulm] Ulm lies on it."}]
    two = job(model, tmp_path, "musique", context="all")
    scenarios_job(two, ("plain", "context"), None)
    assert seen[2] == seen[3]
    assert any("given in every scenario already" in said for said in two.run.said)
    assert not any("every scenario already" in said for said in one.run.said)


def test_a_scenario_that_does_not_fit_is_refused_before_anything_is_asked(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "ask_and_judge", lambda *rest: pytest.fail("was asked"))
    monkeypatch.setattr(examples, "run_evaluation", lambda *rest: pytest.fail("was evaluated"))
    for name, scenario, sentence in (
        ("gsm8k", "context", "4 of the 4 examples of gsm8k have no context"),
        ("strategyqa", "negated", "strategyqa asks yes/no questions"),
    ):
        asked = job(model, tmp_path, name)
        with pytest.raises(DataError, match=sentence):
            scenarios_job(asked, ("plain", scenario), None, knowledge=True)
    with pytest.raises(NasAlignError, match="scenario is 'loud', but it must be one of"):
        scenarios_job(job(model, tmp_path, "gsm8k"), ("loud",), None)
    shown = job(model, tmp_path, "gsm8k-rephrased", shots=2)
    with pytest.raises(PromptError, match="cot takes no examples"):
        scenarios_job(shown, ("plain", "cot"), None)


def test_reasoning_takes_the_decoder_that_can_read_it(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = job(model, tmp_path, "gsm8k", folder)
    result = scenarios_job(asked, ("plain", "cot"), None)
    assert result["decoder"] == "generate"
    assert any("cot takes the decoder generate" in said for said in asked.run.said)
    assert read_json(folder / "run.json")["settings"]["decoder"] == "generate"
    rows = read_jsonl(folder / "eval" / "gsm8k.plain.before.jsonl")
    assert all("generated" in row for row in rows)
    invalid = result["scenarios"]["cot"]["all"]["invalid_rate"] * 4
    assert f"cot: {invalid:.0f} of 4 answers are none of those allowed." in asked.run.said
    for wish in ({"decoder": "logits"}, {"decoder": "logits", "scenario": "cot"}):
        with pytest.raises(NasAlignError, match="leave out the decoder logits or take generate"):
            scenarios_job(job(model, tmp_path, "gsm8k", **wish), ("cot",), None)
    with pytest.raises(NasAlignError, match="take generate"):
        evaluate_job(job(model, tmp_path, "gsm8k", decoder="logits", scenario="cot"), None)


def test_shown_examples_are_asked_in_the_same_way(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list] = []
    plain_run = examples.run_evaluation

    def spy(model: object, tokenizer: object, asked: list, settings: object, shots: list, *rest):
        seen.append(shots)
        return plain_run(model, tokenizer, asked, settings, shots, *rest)

    monkeypatch.setattr(examples, "run_evaluation", spy)
    scenarios_job(job(model, tmp_path, "gsm8k-rephrased", shots=2), ("plain", "negated"), None)
    plain, negated = seen
    assert len(plain) == 2
    assert [shot.negated for shot in negated] == [True, True]
    assert [shot.label for shot in negated] == [not shot.label for shot in plain]


def test_each_evaluation_is_written_once(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = examples.write_jsonl

    def spy(path: Path, rows: object) -> None:
        written.append(path.name)
        write(path, rows)

    monkeypatch.setattr(examples, "write_jsonl", spy)
    folder = tmp_path / "run"
    evaluate_job(job(model, tmp_path, "gsm8k", folder), None, knowledge=True)
    assert written == ["gsm8k.before.jsonl"]
    assert all("knowledge" in row for row in read_jsonl(folder / "eval" / written[0]))


def test_the_lean_is_measured_in_a_scenario(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge, "judge", lambda asked, *rest, **how: [True] * len(asked))
    plain = diagnose_job(job(model, tmp_path, "gsm8k-rephrased", k=8))
    found = diagnose_job(job(model, tmp_path, "gsm8k-rephrased", k=8, scenario="unsure"))
    assert found["sentence"].endswith(", in the scenario unsure.") or "unsure;" in found["sentence"]
    assert found["heads"] == plain["heads"]
    assert "unsure_rate" in found["metrics"]
    assert "unsure_rate" not in plain["metrics"]
    assert "scenario" not in plain["sentence"]


def test_heads_are_tuned_on_prompt_1(model: str, tmp_path: Path) -> None:
    with pytest.raises(NasAlignError, match="align takes scenario=plain"):
        align_job(job(model, tmp_path, "gsm8k", scenario="unsure"))


def test_the_command_prints_one_table(model: str, tmp_path: Path) -> None:
    source = upstream.write(tmp_path, "gsm8k")
    command = ["evaluate", model, "--data", "gsm8k", "--source", source, "--knowledge"]
    command += ["--scenario", "plain", "--scenario", "unsure", "--set", "answer_tokens=4"]
    shown = done(*command).output
    for text in ("gsm8k, 4 examples, decoder logits", "plain", "unsure"):
        assert text in shown
    assert set(printed(*command)["scenarios"]) == {"plain", "unsure"}
    assert "must be one of" in refused(invoke("evaluate", model, "--scenario", "loud"))
