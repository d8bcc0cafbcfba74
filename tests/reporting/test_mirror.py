"""The report of a run that corrected a lean to Yes: everything is about No."""

from pathlib import Path
from typing import Any

from nasalign.io.files import read_json, write_json, write_jsonl
from nasalign.reporting.report import report_html
from nasalign.reporting.report.data_sets import data_sets
from nasalign.reporting.report.origin import limits
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.story import run_verdict
from run_folder import begin_run, evaluation, make_run, metrics, write_probing


def mirrored(folder: Path) -> RunFiles:
    """Notes in a run that a lean to Yes was corrected."""
    facts = read_json(folder / "run.json")
    write_json(folder / "run.json", facts | {"direction": {"chosen": "positive"}})
    return RunFiles.read(folder)


def answered(rows: list[dict[str, Any]], right: float) -> list[dict[str, Any]]:
    """The rows with Yes to all that is right, and to all but a share of what is wrong."""
    wrong = [row for row in rows if not row["label"]]
    denied = {id(row) for row in wrong[: round(right * len(wrong))]}
    return [
        row | {"verdict": "negative", "p_yes": 0.2, "p_no": 0.7}
        if id(row) in denied
        else row | {"verdict": "positive", "p_yes": 0.7, "p_no": 0.2}
        for row in rows
    ]


def test_fewer_wrong_yes_is_the_gain(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = evaluation(0.5)
    sides = {"before": answered(rows, 0.0), "after": answered(rows, 0.6)}
    for side, part in sides.items():
        write_jsonl(folder / "eval" / f"facts.{side}.jsonl", part)
    table = {side: metrics(part) for side, part in sides.items()}
    write_json(folder / "metrics.json", {"datasets": {"facts": table}})
    files = mirrored(folder)
    found = run_verdict(files, data_sets(files))
    assert found.label == "Better"
    assert "and it denies 0 of 40 right answers (0 before)" in found.sentence
    assert "said Yes to 100\N{NO-BREAK SPACE}% of" in found.sentence
    assert "specificity rose from 0.000 to 0.600" in found.sentence
    assert any("It still leans to Yes" in note for note in found.notes)
    assert any("raises the share of No" in limit for limit in limits(files, data_sets(files)))
    page = " ".join(report_html(folder).split())
    assert "so NAS is mirrored here" in page
    assert "whose right answer is No and which the untouched model affirmed" in page
    assert "Share of the validation set answered No." in page


def test_nothing_to_fix_says_what_was_looked_for(tmp_path: Path) -> None:
    begin_run(tmp_path)
    write_probing(tmp_path)
    rows = evaluation(0.1)
    (tmp_path / "eval").mkdir()
    write_jsonl(tmp_path / "eval" / "facts.before.jsonl", rows)
    leans = {"sentence": "The model leans to No.", "metrics": metrics(rows), "heads": []}
    write_json(tmp_path / "diagnosis.json", leans)
    files = mirrored(tmp_path)
    assert "affirms no wrong answer" in run_verdict(files, data_sets(files)).sentence
