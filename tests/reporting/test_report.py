"""The report of a run directory: its verdict in every case, its figures, and data as text."""

import hashlib
import html
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from fault_tools import invoke, printed, refused
from nasalign.config import load_preset
from nasalign.errors import NasAlignError
from nasalign.evaluation.metrics import or_none
from nasalign.io.files import read_json, read_jsonl, write_json, write_jsonl
from nasalign.reporting.formats import percent
from nasalign.reporting.report import report_html, write_report
from nasalign.reporting.report.changed_answers import MOST_EXAMPLES, attention, changed_examples
from nasalign.reporting.report.data_sets import data_sets
from nasalign.reporting.report.origin import command_line, limits
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.story import Verdict, run_verdict
from nasalign.reporting.report.tables import effect_rows
from nasalign.reporting.report.tuning import halting_rule, limit_of
from run_folder import (
    FACTS,
    begin_run,
    evaluated,
    evaluation,
    make_run,
    metrics,
    text_of,
    without_scripts,
    write_attention,
    write_joint,
    write_probing,
    write_side_effects,
)


def told(folder: Path) -> Verdict:
    files = RunFiles.read(folder)
    return run_verdict(files, data_sets(files))


def test_the_page_tells_the_story_in_order(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", more=True)
    write_attention(folder)
    write_side_effects(folder)
    assert any("Free answers did not change measurably" in note for note in told(folder).notes)
    page = without_scripts(report_html(folder))
    places = [page.index(f'id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    assert page.count("<svg") == len(re.findall(r'class="plot"', page))
    assert "0.0123" in text_of(page)  # a setting, in the command and in the table
    assert "not measured" not in text_of(page)


SECTIONS = ("verdict", "figures", "gap", "confidence", "heads", "tuning", "shifts", "examples")
SECTIONS += ("attention", "effects", "origin", "limits")


def test_what_each_head_of_nasa_plus_carries_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_joint(folder)
    page = without_scripts(report_html(folder))
    assert 'id="joint"' in page
    assert 'id="tuning"' not in page
    assert "0.612" in text_of(page)
    assert "0.755" in text_of(page)
    assert "The learning rate was 0.003." in text_of(page)
    for drawn in ("layer 1, head 2", "layer 3, head 0", "sums"):
        assert drawn in page
    (folder / "head_effects.json").unlink()  # as a run of an earlier version
    rows = [row for row in read_jsonl(folder / "joint.jsonl") if row.pop("learning_rate")]
    write_jsonl(folder / "joint.jsonl", rows)
    earlier = text_of(without_scripts(report_html(folder)))
    assert "Which heads carry it" not in earlier
    assert "learning rate" not in earlier


def test_figures_and_changes_are_those_of_the_run(tmp_path: Path) -> None:
    files = RunFiles.read(make_run(tmp_path / "run"))
    data = data_sets(files)[0]
    before, after = (evaluated(data.rows[side]) for side in ("before", "after"))
    for name, change in before.change_to(after, 200, 0).items():
        assert data.changes[name] == pytest.approx(change, nan_ok=True)
    for side, told_of in files.metrics["facts"].items():
        for name, (low, high) in told_of["intervals"].items():
            assert or_none(data.figures[side][name]) == pytest.approx((told_of[name], low, high))


def test_ranking_is_the_area_under_the_curve(tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    data = data_sets(RunFiles.read(make_run(tmp_path / "run")))[0]
    rows = data.rows["after"]
    odds = [row["p_yes"] / (row["p_yes"] + row["p_no"]) for row in rows]
    expected = roc_auc_score([row["label"] for row in rows], odds)
    assert data.ranking["after"] == pytest.approx(expected)


def test_recall_up_and_accuracy_the_same(tmp_path: Path) -> None:
    found = told(make_run(tmp_path / "run"))
    assert found.label == "Fewer missed Yes, same accuracy, more wrong Yes"
    assert found.tone == "mixed"
    assert "tiny-135m said No to 9" in found.sentence
    assert (
        "after retuning 1 of its 12 attention heads (2 tried), recall rose from" in found.sentence
    )
    assert "accuracy did not change measurably" in found.sentence
    assert any("hardly tells them apart" in note for note in found.notes)
    assert any("its precision before says little" in note for note in found.notes)
    assert any("calibration error did not change measurably" in note for note in found.notes)


def without_a_head(folder: Path) -> None:
    make_run(folder, yes_after=0.05, kept=False)


def worse(folder: Path) -> None:
    """It was right about all, and is wrong about all."""
    make_run(folder)
    rows = evaluation(0.05)
    for side, verdicts in (
        ("before", ("negative", "positive")),
        ("after", ("positive", "negative")),
    ):
        said = [row | {"verdict": verdicts[row["label"]]} for row in rows]
        write_jsonl(folder / "eval" / f"facts.{side}.jsonl", said)


def all_yes(folder: Path) -> None:
    make_run(folder)
    rows = evaluation(0.0)
    for row in rows:
        row["label"] = row["question"].endswith(("1?", "2?"))  # No is right mostly
    write_jsonl(folder / "eval" / "facts.before.jsonl", rows)
    yes = {"verdict": "positive", "p_yes": 0.5, "p_no": 0.1}
    write_jsonl(folder / "eval" / "facts.after.jsonl", [row | yes for row in rows])


FALL = "recall fell from 1.000 to 0.000, accuracy fell from 1.000 to 0.000"
OTHER = "now leans the other way: it says Yes to 100\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(
    ("make", "label", "tone", "says"),
    [
        (worse, "Worse", "bad", [FALL]),
        (
            all_yes,
            "Fewer missed Yes, lower accuracy",
            "mixed",
            [OTHER, "It never said Yes before, so it has no precision before"],
        ),
        (without_a_head, "Unchanged", None, ["of 2 heads tried none was kept"]),
    ],
)
def test_every_outcome_has_its_name(
    make: Callable[[Path], None], label: str, tone: str | None, says: list[str], tmp_path: Path
) -> None:
    make(tmp_path / "run")
    found = told(tmp_path / "run")
    assert (found.label, found.tone) == (label, tone or found.tone)
    for part in says:
        assert part in " ".join([found.sentence, *found.notes])
    page = text_of(report_html(tmp_path / "run"))
    assert ("No answer changed" in page) == (make is without_a_head)


@pytest.mark.parametrize("side", ["before", "after"])
def test_words_that_the_model_does_not_write_are_warned_of_first(side: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert not any("coverage" in note for note in told(folder).notes)
    path = folder / "eval" / f"facts.{side}.jsonl"
    rows = [
        row | {"p_yes": row["p_yes"] / 10, "p_no": row["p_no"] / 10} for row in read_jsonl(path)
    ]
    write_jsonl(path, rows)
    whole = read_json(folder / "metrics.json")
    whole["datasets"]["facts"][side] = metrics(rows)
    write_json(folder / "metrics.json", whole)
    first = told(folder).notes[0]
    assert first.startswith(f"facts, {side}: the answer words together have a probability of 0.06")
    assert first in text_of(report_html(folder))


def test_nothing_to_fix(tmp_path: Path) -> None:
    begin_run(tmp_path)
    write_probing(tmp_path)
    rows = evaluation(0.9)
    (tmp_path / "eval").mkdir()
    write_jsonl(tmp_path / "eval" / "facts.before.jsonl", rows)
    leans = {"sentence": "The model leans to Yes.", "metrics": metrics(rows), "heads": []}
    write_json(tmp_path / "diagnosis.json", leans)
    found = told(tmp_path)
    assert found.label == "Nothing to fix"
    assert "denies none of the 33 answers that it knows" in found.sentence
    page = text_of(report_html(tmp_path))
    assert "The model leans to Yes." in page
    assert "No head was tuned" in page


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ((), "nothing is measured yet"),
        (("eval",), "the untouched model is evaluated, and its heads are not selected yet"),
        (("eval", "probing"), "3 heads selected and none tuned yet"),
        (("eval", "probing", "tuning"), "1 of 3 selected heads done, 0 of them kept"),
    ],
)
def test_unfinished(left: tuple[str, ...], says: str, tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    whole = make_run(tmp_path / "whole")
    if "eval" in left:
        (tmp_path / "run" / "eval").mkdir()
        rows = evaluation(0.1)
        write_jsonl(tmp_path / "run" / "eval" / "facts.before.jsonl", rows)
    if "probing" in left:
        write_probing(tmp_path / "run")
    if "tuning" in left:
        lines = (whole / "tuning.jsonl").read_text().splitlines(keepends=True)[:4]
        (tmp_path / "run" / "tuning.jsonl").write_text("".join(lines) + '{"record": "epo')
    found = told(tmp_path / "run")
    assert found.label == "Unfinished"
    assert says in found.sentence
    assert "--resume" in found.notes[0]
    assert says in text_of(report_html(tmp_path / "run"))


def test_a_diagnosis_and_an_evaluation_have_fewer_sections(tmp_path: Path) -> None:
    for name in ("diagnosis", "evaluation"):
        begin_run(tmp_path / name, command={"diagnosis": "diagnose"}.get(name, "evaluate"))
        (tmp_path / name / "eval").mkdir()
        write_jsonl(tmp_path / name / "eval" / "facts.after.jsonl", evaluation(0.3))
    heads = [{"layer": 2, "head": 1, "nas": 5.0}]
    leans = {"sentence": "The model leans to No.", "metrics": {}, "heads": heads}
    write_json(tmp_path / "diagnosis" / "diagnosis.json", leans)
    write_probing(tmp_path / "diagnosis")
    begin_run(tmp_path / "evaluation", command="evaluate", adapter="runs/x")
    write_json(
        tmp_path / "evaluation" / "metrics.json",
        {"datasets": {"facts": {"after": metrics(evaluation(0.3))}}},
    )
    assert told(tmp_path / "diagnosis").sentence == "The model leans to No."
    assert "tiny-135m with its adapter says Yes to 3" in told(tmp_path / "evaluation").sentence
    for name in ("diagnosis", "evaluation"):
        page = report_html(tmp_path / name)
        assert 'id="figures"' in page
        assert 'id="tuning"' not in page


def test_metrics_alone_are_enough(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    for path in (folder / "eval").iterdir():
        path.unlink()
    page = text_of(report_html(folder))
    assert "The rows of the evaluation are not in the run directory" in page


def test_the_name_of_a_file_stays_text_in_charts(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    name = "<img src=x onerror=alert(3)>"
    for side in ("before", "after"):
        rows = evaluation(0.1 if side == "before" else 0.6)
        write_jsonl(folder / "eval" / f"{name}.{side}.jsonl", rows)
    page = without_scripts(report_html(folder))
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_only_the_two_scripts_of_the_page_may_run(tmp_path: Path) -> None:
    page = report_html(make_run(tmp_path / "run"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    says = html.unescape(policy[1])
    assert says.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in says
    for script in re.findall(r"<script>(.*?)</script>", page, flags=re.S):
        assert b64encode(hashlib.sha256(script.encode()).digest()).decode() in says


def test_no_address_is_asked_for_anything(tmp_path: Path) -> None:
    bare = without_scripts(report_html(make_run(tmp_path / "run")))
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', bare)
    assert not re.findall(r"url\((?!#)", bare)
    assert "@import" not in bare


def test_many_changed_examples_are_capped_and_every_kind_has_its_turn(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    before, after = (evaluation(yes, questions=400, seed=1) for yes in (0.02, 0.98))
    write_jsonl(folder / "eval" / "facts.before.jsonl", before)
    write_jsonl(folder / "eval" / "facts.after.jsonl", after)
    files = RunFiles.read(folder)
    examples, total = changed_examples(data_sets(files), files.words)
    assert len(examples) == MOST_EXAMPLES < total
    kinds = [example["shift"] for example in examples]
    assert kinds.count("FN to TP") == pytest.approx(kinds.count("TN to FP"), abs=1)
    assert f"{MOST_EXAMPLES} here, of {total} answers that changed" in text_of(report_html(folder))


def test_attention_is_capped_but_never_empty(tmp_path: Path, monkeypatch) -> None:
    folder = make_run(tmp_path / "run")
    write_attention(folder)
    files = RunFiles.read(folder)
    assert [len(attention(files)[0]), attention(files)[1]] == [2, 2]
    monkeypatch.setattr("nasalign.reporting.report.changed_answers.MOST_NUMBERS", 1)
    assert [len(attention(files)[0]), attention(files)[1]] == [1, 2]


def test_attention_is_there_without_scripts(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_attention(folder)
    page = report_html(folder)
    tokens = re.search(r'id="tokens-before"[^>]*>(.*?)</div>', page, flags=re.S)
    assert tokens
    # By hand: the terms are 0.097, 0.165, 0.020 and 0 before, at most 0.165 on either side.
    assert re.findall(r"--pull: ([0-9.]+)", tokens[1]) == ["0.764", "1.000", "0.350", "0.000"]
    assert tokens[1].count('data-toward="no"') == 3
    assert tokens[1].count('data-toward="yes"') == 1  # masked: it pulls nowhere
    assert 'class="word yes"' in tokens[1]


def test_side_effects_may_be_measured_in_part() -> None:
    assert effect_rows({}) == []
    (row,) = effect_rows({"perplexity": {"tokens": 1000, "before": 12.34, "after": 12.4}})
    assert (row["before"], row["after"]) == ("12.34", "12.40")


def test_shifts_by_knowledge(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    marks = [{"knowledge": "Det-T", "confident": True}, {"knowledge": "Det-F", "confident": False}]
    rows = [row | marks[place % 2] for place, row in enumerate(evaluation(0.05))]
    write_jsonl(folder / "eval" / "facts.before.jsonl", rows)
    page = text_of(report_html(folder))
    assert "Share of No that became Yes, by the free answer" in page
    assert "Asked freely its answer is right" in page


def test_the_command_is_the_run_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", more=True)
    facts = FACTS | {
        "probing_data": "hotpotqa",
        "probing_origin": "dev.json",
        "further": ["my questions.jsonl"],
        "examples": {"facts": {}, "my questions": {}},
    }
    write_json(folder / "run.json", facts)
    line = command_line(RunFiles.read(folder))
    assert line.startswith("nasalign align tiny-135m --probing-data hotpotqa")
    assert "--source hotpotqa=dev.json" in line
    assert "--eval 'my questions.jsonl'" in line
    assert "--set learning_rate=0.0123" in line
    assert "halting_share" not in line  # as in the preset
    assert "--preset paper" in line  # from which only the rate differs


def test_the_command_names_the_preset_from_which_the_fewest_settings_differ(
    tmp_path: Path,
) -> None:
    folder = make_run(tmp_path / "run", more=True)
    newer = ("line_search", "learning_rate")
    earlier = {  # a run of the preset for small models, before its rate was found
        name: value for name, value in load_preset("fast").as_dict().items() if name not in newer
    }
    for settings, words in (
        (load_preset("fast").as_dict(), ""),
        (load_preset("fast").as_dict() | {"seed": 3}, " --set seed=3"),
        (load_preset("paper").as_dict(), " --preset paper"),
        (load_preset("paper").as_dict() | {"epochs": 2}, " --preset paper --set epochs=2"),
        (
            earlier | {"learning_rate": 4e-4},
            " --set learning_rate=0.0004 --set line_search=false",
        ),
        (earlier | {"gone": 1}, " --set learning_rate=1e-06 --set line_search=false --set gone=1"),
    ):
        write_json(folder / "run.json", FACTS | {"settings": settings})
        line = command_line(RunFiles.read(folder))
        assert line == f"nasalign align tiny-135m{words} --out runs/run"


def test_a_rate_that_was_found_and_an_update_that_was_shortened_are_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", more=True)
    assert "of the root mean square" not in text_of(report_html(folder))
    assert "shortened" not in text_of(report_html(folder))
    found = {"relative": 0.00371, "rates": [0.000412, 0.00093]}
    write_json(folder / "run.json", FACTS | {"learning_rate": found})
    rows = read_jsonl(folder / "tuning.jsonl")
    next(row for row in rows if row["record"] == "head")["scale"] = 0.40625
    write_jsonl(folder / "tuning.jsonl", rows)
    page = text_of(report_html(folder))
    assert "0.0037 of the root mean square of a head's rows" in page
    assert "(0.00041 and 0.00093 there)" in page
    assert "last epoch shortened to 0.41 of its length" in page


@pytest.mark.parametrize(
    ("halting", "limits", "says"),
    [
        ({"kind": "tau", "value": 57.25, "answer": "Yes"}, (57.25, None), "tau = 57.3"),
        ({"kind": "share", "value": 0.5, "answer": "No"}, (None, 0.5), "answered No above 0.5"),
        (
            {"kind": "share", "value": 0.5, "answer": "Yes", "of": "balance"},
            (None, 0.5),
            "share of as many right as wrong answers answered Yes above 0.5",
        ),
        ({}, (None, None), ""),
    ],
)
def test_where_tuning_halts(halting: dict, limits: tuple, says: str, tmp_path: Path) -> None:
    begin_run(tmp_path, halting=halting)
    files = RunFiles.read(tmp_path)
    assert (limit_of(files, "tau"), limit_of(files, "share")) == limits
    assert halting_rule(files).endswith(says)


def test_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    settings = FACTS["settings"] | {"decoder": "generate", "judge": "openai:gpt-4"}
    write_json(folder / "run.json", FACTS | {"settings": settings})
    files = RunFiles.read(folder)
    says = " ".join(limits(files, data_sets(files)))
    assert "decodes greedily" in says
    assert "judged by openai:gpt-4" in says


def test_shares_are_not_rounded_to_all_and_none() -> None:
    told = [
        percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0, 0.001, 0.5, 0.999, 1)
    ]
    assert told == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NasAlignError, match=r"is no run directory: it holds no run\.json"):
        report_html(tmp_path)
    begin_run(tmp_path / "old", command="")
    with pytest.raises(NasAlignError, match=r"its run\.json names none of the commands align, "):
        report_html(tmp_path / "old")
    begin_run(tmp_path / "old", halting="share of V answered positively above 0.5")
    with pytest.raises(NasAlignError, match=r"at .halting.: .*; run the command again"):
        report_html(tmp_path / "old")
    folder = make_run(tmp_path / "run")
    (folder / "metrics.json").write_text("{")
    with pytest.raises(NasAlignError, match="not valid JSON"):
        report_html(folder)
    (folder / "metrics.json").unlink()
    (folder / "nas.safetensors").write_bytes(b"nothing")
    with pytest.raises(NasAlignError, match="holds no scores of heads"):
        report_html(folder)
    (folder / "nas.safetensors").unlink()
    (folder / "eval" / "facts.after.jsonl").write_text("{broken}\n")
    with pytest.raises(NasAlignError, match="a line that is not valid JSON"):
        report_html(folder)


def test_the_command_writes_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert Path(printed("report", folder)["report"]) == folder / "report.html"
    assert (folder / "report.html").stat().st_size < 3_000_000
    assert "<!doctype html>" in (folder / "report.html").read_text()[:200].lower()
    assert write_report(folder) == folder / "report.html"
    assert "is no run directory" in refused(invoke("report", tmp_path))
