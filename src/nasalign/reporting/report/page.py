"""The report: one self-contained page of a run, made from the plain files of its directory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from nasalign.extras import lack
from nasalign.io.digests import content_source
from nasalign.io.storage import write_text
from nasalign.reporting.comparison_table import label, printed
from nasalign.reporting.formats import (
    METRIC_NAMES,
    between,
    metric_name,
    number,
    rounded,
    signed,
    undefined,
)
from nasalign.reporting.report.changed_answers import attention, changed_examples, painted
from nasalign.reporting.report.comparison import comparison, comparison_verdict
from nasalign.reporting.report.data_sets import DataSet, data_sets
from nasalign.reporting.report.not_selected import high_but_not_selected
from nasalign.reporting.report.origin import (
    command_line,
    data_rows,
    limits,
    model_rows,
    public,
    setting_rows,
    time_rows,
)
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.story import run_verdict
from nasalign.reporting.report.tables import (
    by_knowledge,
    calibration_rows,
    contingency,
    effect_rows,
    subset_tables,
)
from nasalign.reporting.report.tuning import (
    HEAD_COLUMNS,
    halting_rule,
    head_rows,
    joint_rows,
    share_of_what,
)
from nasalign.run_file import as_written

if TYPE_CHECKING:
    from nasalign.reporting.report.chart_style import Chart

FILE = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"
_SECTIONS = {
    "comparison": "Beside the alternatives",
    "figures": "Before and after",
    "gap": "Precision and recall",
    "confidence": "How sure the answers are",
    "calibration": "Calibrated probabilities",
    "heads": "The heads",
    "tuning": "Tuning, head by head",
    "joint": "Tuning, all heads together",
    "subsets": "By what it knows, and how it was asked",
    "shifts": "What answers became",
    "examples": "Answers that changed",
    "attention": "Where the heads look",
    "effects": "Side effects",
    "origin": "How to reproduce it, and limits",
}
_OF_A_COMPARISON = ("comparison", "origin")
_OF_ONE_MODEL = ("figures", "gap", "confidence", "heads", "subsets", "origin")


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run directory and return its path.

    Raises:
        NasAlignError: it is no run directory, or a file in it is broken.
    """
    path = folder / FILE
    write_text(path, report_html(folder))
    return path


def report_html(folder: Path) -> str:
    """Return the report of a run directory as one page that needs nothing else.

    Raises:
        NasAlignError: it is no run directory, or a file in it is broken.
    """
    with as_written(folder):
        return _page(public(RunFiles.read(folder)))


def _page(files: RunFiles) -> str:
    sets, script = data_sets(files), _template_text("report.js")
    (charts, vega), subsets = _drawn(files, sets), subset_tables(files)
    verdict = comparison_verdict(files) if files.command == "compare" else run_verdict(files, sets)
    examples, changed = changed_examples(sets, files.words)
    shown, total = attention(files)
    return _template().render(
        files=files,
        sets=sets,
        sections=_sections(files, bool(subsets)),
        verdict=verdict,
        comparison=comparison(files),
        charts=charts,
        specs={name: chart.spec for name, chart in charts.items()},
        undrawn=lack("plots"),
        policy=_policy(vega, script),
        vega=Markup(vega),
        script=Markup(script),
        style=Markup(_template_text("report.css")),
        words=files.words,
        metrics={name: metric_name(name, files.words) for name in METRIC_NAMES},
        not_selected=list(high_but_not_selected(files)),
        examples=examples,
        changed=changed,
        attention=shown,
        attention_total=total,
        head_columns=[name.replace("Yes", files.words[files.to_no]) for name in HEAD_COLUMNS],
        head_rows=head_rows(files),
        joint_rows=joint_rows(files),
        halting=halting_rule(files),
        effects=effect_rows(files.side_effects or {}),
        subsets=subsets,
        calibration=calibration_rows(files),
        command=command_line(files),
        limits=limits(files, sets),
        run_json=json.dumps(files.facts, indent=2, ensure_ascii=False),
    )


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    called = (
        *(number, rounded, signed, between, undefined, painted, label, printed),
        *(contingency, by_knowledge, model_rows, data_rows, time_rows, setting_rows),
        share_of_what,
    )
    environment.globals |= {function.__name__: function for function in called}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("report.html.jinja")


def _template_text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _sections(files: RunFiles, subsets: bool) -> dict[str, str]:
    """The titles of the sections that a run of this command has."""
    if files.command == "compare":
        return {name: _SECTIONS[name] for name in _OF_A_COMPARISON}
    absent = {"comparison", "tuning" if files.joint else "joint"}
    absent |= set() if subsets else {"subsets"}
    absent |= set() if calibration_rows(files) else {"calibration"}
    names = _SECTIONS if files.command == "align" else _OF_ONE_MODEL
    return {name: _SECTIONS[name] for name in names if name not in absent}


def _policy(*scripts: str) -> str:
    """What the page may do: nothing from elsewhere, and of scripts only its own two, by hash."""
    allowed = " ".join(map(content_source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _drawn(files: RunFiles, sets: Sequence[DataSet]) -> tuple[dict[str, "Chart"], str]:
    """The charts, and the script that makes them live; neither without the extra ``plots``."""
    if lack("plots"):
        return {}, ""
    from nasalign.reporting.report.chart_style import vega_script
    from nasalign.reporting.report.charts import charts_of

    return charts_of(files, sets), vega_script()
