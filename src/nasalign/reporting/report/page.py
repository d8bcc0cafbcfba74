"""The report: one self-contained page of a run, made from the plain files of its directory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nasalign.evaluation.responses import KINDS
from nasalign.extras import lack
from nasalign.io.digests import content_source
from nasalign.io.storage import write_text
from nasalign.progress import number
from nasalign.reporting.report.changed_answers import (
    attention,
    by_knowledge,
    changed_examples,
    contingency,
    painted,
)
from nasalign.reporting.report.comparison import COST_COLUMNS, comparison
from nasalign.reporting.report.comparison_story import comparison_verdict
from nasalign.reporting.report.data_sets import METRIC_NAMES, DataSet, data_sets, outcome
from nasalign.reporting.report.effects import effect_rows
from nasalign.reporting.report.joint_rows import joint_rows
from nasalign.reporting.report.origin import command_line, data_rows, limits, model_rows
from nasalign.reporting.report.public import public
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.story import verdict
from nasalign.reporting.report.subsets import subset_tables
from nasalign.reporting.report.tuning import HEAD_COLUMNS, head_rows
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
_OUTCOMES = {
    "TP": "{yes}, rightly",
    "FP": "{yes}, wrongly",
    "TN": "{no}, rightly",
    "FN": "{no}, wrongly",
}


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` into a run directory and returns its path.

    Raises:
        NasAlignError: it is no run directory, or a file in it is broken.
    """
    path = folder / FILE
    write_text(path, report_html(folder))
    return path


def report_html(folder: Path) -> str:
    """Returns the report of a run directory as one page that needs nothing else.

    Raises:
        NasAlignError: it is no run directory, or a file in it is broken.
    """
    with as_written(folder):
        return _page(public(RunFiles.read(folder)))


def _page(files: RunFiles) -> str:
    sets, compared = data_sets(files), files.kind == "compare"
    (charts, vega), subsets = _drawn(files, sets), subset_tables(files)
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            files=files,
            sets=sets,
            sections=_sections(files, bool(subsets)),
            verdict=comparison_verdict(files) if compared else verdict(files, sets),
            comparison=comparison(files),
            cost_columns=COST_COLUMNS,
            charts=charts,
            undrawn=lack("plots"),
            specs={name: chart.spec for name, chart in charts.items()},
            policy=_policy(vega, script),
            vega=Markup(vega),
            script=Markup(script),
            style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
            **_words(files),
            **_captions(files, sets),
            **_answers(files, sets),
            **_origin(files, sets),
            head_columns=[name.replace("Yes", files.words[files.to_no]) for name in HEAD_COLUMNS],
            head_rows=head_rows(files),
            joint_rows=joint_rows(files),
            validation=files.facts.get("probing", {}).get("validation", "?"),
            effects=effect_rows(files.side_effects or {}),
            subsets=subsets,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"number": number, "painted": painted}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _sections(files: RunFiles, subsets: bool) -> dict[str, str]:
    """The titles of the sections that a run of this kind has."""
    if files.kind == "compare":
        return {name: _SECTIONS[name] for name in _OF_A_COMPARISON}
    whole = files.kind == "align"
    names = [name for name in _SECTIONS if whole or name in _OF_ONE_MODEL]
    absent = {"comparison", "tuning" if files.joint else "joint"}
    absent |= set() if subsets else {"subsets"}
    return {name: _SECTIONS[name] for name in names if name not in absent}


def _policy(*scripts: str) -> str:
    """What the page may do: nothing from elsewhere, and of scripts only its own two, by hash."""
    allowed = " ".join(map(content_source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _drawn(files: RunFiles, sets: Sequence[DataSet]) -> tuple[dict[str, "Chart"], str]:
    """The charts, and the script that makes them live; neither where nothing can draw them."""
    if lack("plots"):
        return {}, ""
    from nasalign.reporting.report.drawing import charts_of, vega_script

    return charts_of(files, sets), vega_script()


def _words(files: RunFiles) -> dict[str, Any]:
    yes, no = files.words
    return {
        "yes": yes,
        "no": no,
        "said_words": {"positive": yes, "negative": no},
        "metrics": {name: says.replace("Yes", yes) for name, says in METRIC_NAMES.items()},
        "outcomes": {kind: says.format(yes=yes, no=no) for kind, says in _OUTCOMES.items()},
    }


def _captions(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Any]:
    settings = files.settings
    how = f"Decoder: {settings.get('decoder', '?')}; judge: {settings.get('judge', '?')}."
    sizes = {
        data.name: f"{data.name}, n = {data.n:,} ({data.questions:,} questions)" for data in sets
    }
    return {
        "captions": {name: f"{size}. {how}" for name, size in sizes.items()},
        "caption_all": f"{'; '.join(sizes.values())}. {how}",
        "counts": {data.name: {kind: _counts(data, kind) for kind in KINDS} for data in sets},
    }


def _counts(data: DataSet, kind: str) -> str:
    """How many answers are of an outcome, by side."""
    counts = {side: sum(outcome(row) == kind for row in rows) for side, rows in data.rows.items()}
    return "; ".join(f"{count:,} {side}" for side, count in counts.items())


def _answers(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Any]:
    examples, changed = changed_examples(sets, files.words)
    shown, total = attention(files)
    return {
        "contingencies": {data.name: contingency(data) for data in sets},
        "knowledge": {data.name: by_knowledge(data) for data in sets},
        "examples": examples,
        "changed": changed,
        "shift_names": sorted({example["shift"] for example in examples}),
        "attention": shown,
        "attention_total": total,
    }


def _origin(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Any]:
    return {
        "command": command_line(files),
        "model_rows": model_rows(files),
        "data_rows": data_rows(files),
        "time_rows": list(files.facts.get("timings", {}).items()),
        "limits": limits(files, list(sets)),
        "run_json": json.dumps(files.facts, indent=2, ensure_ascii=False),
    }
