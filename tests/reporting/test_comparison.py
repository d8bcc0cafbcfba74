"""A comparison in the report: its section, its verdict, and data as text."""

import json
import re
from pathlib import Path

import pytest

from comparison_folder import MARKED, REASON, ROWS, make_comparison
from nasalign.io.files import write_json
from nasalign.reporting.formats import between, number
from nasalign.reporting.report import report_html
from nasalign.reporting.report.charts import comparison_charts
from nasalign.reporting.report.comparison import comparison_verdict
from nasalign.reporting.report.origin import command_line
from nasalign.reporting.report.run_folder import RunFiles
from run_folder import text_of, without_scripts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("comparison") / "run")


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return without_scripts(report_html(folder))


def test_a_comparison_has_its_section_and_its_origin_alone(page: str) -> None:
    assert re.findall(r'<section id="(\w+)">', page) == ["comparison", "origin"]
    assert page.count("<svg") == len(re.findall(r'class="plot"', page)) == 2
    says = text_of(page)
    assert "Beside the alternatives" in says
    assert "* needs the probabilities of the answer words" in says
    assert "Free answers: 100 questions of facts" in says
    assert "the best of many rows is the best in part by luck" in says
    assert "learning rate 0.0003; epochs 2; development balanced accuracy 0.71" in says


def test_every_figure_is_in_the_table(folder: Path, page: str) -> None:
    content = json.loads((folder / "comparison.json").read_text())
    tables = re.findall(r'<table class="sortable rows">.*?</table>', page, flags=re.S)
    assert len(tables) == 2
    for table, name in zip(tables, ("facts", MARKED), strict=True):
        body = re.search(r"<tbody>(.*?)</tbody>", table, flags=re.S)
        assert body
        lines = re.findall(r"<tr>(.*?)</tr>", body[1], flags=re.S)
        rows = [row for row in content["rows"] if not row["error"]]
        assert len(lines) == len(rows) == len(ROWS)
        for line, row in zip(lines, rows, strict=True):
            cells = re.findall(r'data-value="([^"]*)"', line)
            figures = row["datasets"][name]["figures"]
            names = ["accuracy", "accuracy_change", "recall", "specificity", "precision", "f1"]
            names += ["auc", "ece", "ece_two_words", "yes_rate", "gap", "invalid_rate", "coverage"]
            values = [(figures.get(one) or [None])[0] for one in names]
            expected = [-9 if value is None else value for value in values]
            assert [float(cell) for cell in cells] == pytest.approx(expected)
            says = text_of(line)
            value, low, high = figures["accuracy"]
            assert says.startswith(row["name"] + "*" * row["logits"])
            assert f"{number(value)} {between([low, high])}" in says


def test_what_a_row_takes(page: str) -> None:
    table = page[page.index("What it takes") :]
    line = re.search(r'<th scope="row">lora-all</th>(.*?)</tr>', table, flags=re.S)
    assert line
    taken = "617.3 31.2 2 3.5M 320 0.388 0.0123 12.35 an adapter, or merged weights"
    assert text_of(line[1]) == taken


def test_a_row_that_could_not_be_had_stands_below_with_its_reason(folder: Path, page: str) -> None:
    foot = re.search(r"<tfoot>(.*?)</tfoot>", page, flags=re.S)
    assert foot
    assert text_of(foot[1]) == f"unibias {REASON}"
    assert comparison_verdict(RunFiles.read(folder)).notes[-1].startswith("Not to be had here: uni")


def test_the_verdict_names_the_most_accurate_row_of_each_data_set(folder: Path) -> None:
    found = comparison_verdict(RunFiles.read(folder))
    content = json.loads((folder / "comparison.json").read_text())

    def best(name: str) -> str:
        rows = [row for row in content["rows"] if not row["error"]]
        return str(
            max(rows, key=lambda row: row["datasets"][name]["figures"]["accuracy"][0])["name"]
        )

    assert f"On facts the most accurate of 8 rows is {best('facts')}: 0." in found.sentence
    assert f"On {MARKED} the most accurate of 8 rows is {best(MARKED)}" in found.notes[0]
    assert found.label == "Comparison"


def test_none_is_better(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "run", names=("facts",))
    content = json.loads((folder / "comparison.json").read_text())
    content["rows"] = content["rows"][:1]
    write_json(folder / "comparison.json", content)
    found = comparison_verdict(RunFiles.read(folder))
    assert "none of 1 rows is more accurate than the untouched tiny-135m" in found.sentence


def test_an_unfinished_comparison_says_so(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "run")
    (folder / "comparison.json").unlink()
    (folder / "compare").mkdir()
    for name in ("untouched", "threshold"):
        write_json(folder / "compare" / f"{name}.json", {})
    says = text_of(report_html(folder))
    assert "is not finished: 2 rows are done" in says
    assert "The comparison is not finished" in says


def test_the_chart_has_both_measures_of_every_row(folder: Path) -> None:
    chart = comparison_charts(RunFiles.read(folder))["comparison-facts"]
    text = json.dumps(chart.spec)
    for name, *_ in ROWS:
        assert f'"row": "{name}"' in text
    for measure in ("accuracy", "share of Yes"):  # a line and a point each
        assert text.count(f'"measure": "{measure}"') == 2 * len(ROWS)
    assert '"right": 0.5' in text


def test_text_of_data_stays_text(folder: Path) -> None:
    whole = report_html(folder)
    assert "<script>alert(1)" not in whole
    assert "=set&lt;script&gt;alert(1)" in whole
    assert len(re.findall(r"<script(?: [^>]*)?>", whole)) == 4


def test_the_command_is_the_run_again(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "run", names=("facts", "more"))
    facts = json.loads((folder / "run.json").read_text())
    facts["examples"] = {"facts": {}, "more": {}}
    facts["compare"]["only"] = ["untouched", "nasa"]
    write_json(folder / "run.json", facts)
    line = command_line(RunFiles.read(folder))
    assert line.startswith("nasalign compare tiny-135m --eval more.jsonl --only untouched,nasa")
