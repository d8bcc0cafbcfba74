"""Where the figures of a run come from: its command, data and times; and what they do not say."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasalign.config import load_preset, preset_name
from nasalign.data.sources import SOURCES
from nasalign.errors import NasAlignError
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.public import further_origins, published
from nasalign.reporting.report.run_folder import RunFiles


def command_line(files: RunFiles) -> str:
    """Returns a command that makes the run again, from what ``run.json`` says.

    A local file of a named data set stands there as ``--source``; further data that were local
    files stand there by their names.
    """
    facts, kind = files.facts, files.kind
    words = ["nasalign", kind, str(facts["model"].get("source") or facts["model"]["name"])]
    words += _data_words("--data", facts.get("data"), facts.get("data_origin"))
    if facts.get("probing_data") != facts.get("data") and kind != "evaluate":
        words += _data_words(
            "--probing-data", facts.get("probing_data"), facts.get("probing_origin")
        )
    if kind in ("align", "compare"):
        for name, origin in further_origins(facts).items():
            words += _data_words("--eval", name, origin)
    if kind == "compare" and facts["compare"].get("only"):
        words += ["--only", ",".join(facts["compare"]["only"])]
    if kind == "evaluate" and facts.get("adapter"):
        words += ["--adapter", str(facts["adapter"])]
    for name, value in _changed(files).items():
        words += ["--set", f"{name}={_as_toml(value)}"]
    return shlex.join([*words, "--out", str(Path("runs") / files.folder.resolve().name)])


def _as_toml(value: Any) -> str:
    """A setting as --set takes it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _data_words(option: str, name: str | None, origin: str | None) -> list[str]:
    if not name or (option == "--data" and name == "facts"):
        return []
    path = Path(str(origin))
    own_file = path.stem == name and path.suffix  # that is called as a named data set is
    if name in SOURCES and not own_file:
        paths = str(origin).split(", ") if origin and not published(origin) else []
        return [option, name, *(part for path in paths for part in ("--source", f"{name}={path}"))]
    return [option, name if origin in (None, "", "embedded") else str(origin)]


def _changed(files: RunFiles) -> dict[str, Any]:
    """The settings that differ from the preset for the model's size."""
    try:
        preset = load_preset(preset_name(files.facts["model"]["parameters"])).as_dict()
    except (NasAlignError, KeyError):
        return files.settings
    return {
        name: value
        for name, value in files.settings.items()
        if name not in preset or preset[name] != value
    }


def data_rows(files: RunFiles) -> list[tuple[str, str]]:
    """Returns what was asked, where it comes from, how it was split and what was left out."""
    facts = files.facts
    rows = [
        ("Evaluated data", f"{facts.get('data', '?')} ({facts.get('data_origin', '?')})"),
        (
            "Probed data",
            f"{facts.get('probing_data', '?')} ({facts.get('probing_origin', '?')})",
        ),
    ]
    for origin in facts.get("further", []):
        rows.append(("Further data", str(origin)))
    rows.append(
        (
            "Split",
            "by the hash of the subject: 50 % probed and tuned on, 20 % development, 30 % test",
        )
    )
    for name, made in facts.get("examples", {}).items():
        rows.append((f"Examples of {name}", _pairs(made)))
    if "probing" in facts:
        rows.append(("Probing set", _pairs(facts["probing"])))
    if "judged" in facts:
        rows.append(("Free answers judged", _pairs(facts["judged"])))
    for name, counts in facts.get("dropped", {}).items():
        rows.append((f"Left out of {name}", _pairs(counts)))
    for name, usage in facts.get("endpoints", {}).items():
        rows.append((f"Asked {name}", _pairs(usage)))
    if "halting" in facts:
        rows.append(("Tuning halts by", str(facts["halting"])))
    return rows


def model_rows(files: RunFiles) -> list[tuple[str, str]]:
    """Returns what was measured, on what, with which versions."""
    facts, model = files.facts, files.facts["model"]
    size = model.get("parameters", 0)
    rows = [
        ("Model", f"{model.get('source') or model['name']} ({model['architecture']})"),
        ("Size", f"{size:,} parameters, {model['layers']} layers of {model['heads']} heads"),
        ("Computed", f"{model['dtype']} on {model['device']}, {facts.get('threads', '?')} threads"),
        ("Fingerprint", str(model["fingerprint"])),
        ("Seed", str(files.settings.get("seed", 0))),
        ("Versions", _pairs(facts.get("versions", {}))),
        ("Special tokens", _pairs(facts.get("special_tokens", {}))),
    ]
    if isinstance(facts.get("adapter"), dict):
        rows.append(("Adapter", _pairs(facts["adapter"])))
    return rows


def limits(files: RunFiles, sets: list[DataSet]) -> list[str]:
    """Returns what the figures of a run do not say."""
    yes, no = files.words
    settings, told = files.settings, []
    if settings.get("decoder") == "generate":
        told.append(
            "An answer is what the model writes when it decodes greedily, read by its first words; "
            f"what is neither {yes} nor {no} is invalid."
        )
    else:
        told.append(
            f"An answer is the likelier of {yes} and {no} as the first token. Left to write freely "
            "the model may say something else; --decoder generate measures that."
        )
    if settings.get("judge") == "match":
        told.append(
            "What the model knows was judged by comparing words, with aliases. Right answers in "
            "other words count as not known."
        )
    elif "judge" in settings:
        told.append(f"What the model knows was judged by {settings['judge']}, which can err.")
    if settings.get("generator") == "rules":
        told.append("Wrong answers were made by rules; other wrong answers may be harder.")
    for data in sets[:1]:
        if data.changes:
            _, low, high = data.changes["accuracy"]
            told.append(
                f"With {data.questions:,} questions the accuracy's change is known to within "
                f"{(high - low) / 2:.2f} on either side; smaller effects are not seen here. "
                "Intervals are over questions: another seed or other heads are not in them."
            )
    if files.kind == "compare":
        told.append(
            "The rows were chosen on other questions than these, but the best of many rows is the "
            "best in part by luck, and each was fitted once, with one seed."
        )
        told.append(
            "Seconds and memory are of this machine; memory is what fitting held at its highest "
            "beyond what was held before."
        )
        return told
    aim, other = (no, yes) if files.to_no else (yes, no)
    told.append(
        f"Tuning raises the share of {aim}. It teaches no facts: where {other} is right more often "
        "than not, or the model does not know, it can cost accuracy."
    )
    return told


def _pairs(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in values.items())
