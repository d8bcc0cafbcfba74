"""Where the figures of a run come from: its command, data and times; and what they do not say."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from nasalign.config import DEFAULT_PRESET, Preset, Settings, load_preset
from nasalign.data.sources import SOURCES
from nasalign.models.names import public_name
from nasalign.reporting.formats import rounded, short_value, worded
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.tuning import halting_rule, rate_found


def public(files: RunFiles) -> RunFiles:
    """Return a run whose paths are cut to their last names, wherever its facts name them."""
    facts, model = files.facts, files.facts["model"]
    source = str(model.get("source") or model["name"])
    known_as = public_name(source) if os.sep in source else source
    names = {source: known_as, str(model["name"]): known_as}
    if model.get("base"):  # into which a LoRA adapter was merged
        names[model["base"]] = public_name(model["base"])
    read = [facts.get("data_origin"), facts.get("probing_origin"), *facts.get("further", [])]
    paths = [str(origin) for origin in read if origin and not published(str(origin))]
    paths += [part for origin in paths for part in origin.split(", ")]
    if isinstance(facts.get("adapter"), str):
        paths.append(facts["adapter"])
    names |= {path: Path(path).name for path in paths}
    cut = {path: name for path, name in names.items() if os.sep in path and name}
    return replace(files, facts=_renamed(facts, cut))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A value of JSON in which all texts have other names, the longest put first."""
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if isinstance(value, str):
        for path in sorted(names, key=len, reverse=True):
            value = value.replace(path, names[path])
    return value


def published(origin: str) -> str | None:
    """Return the id on the hub of data that were read from there; None for a file."""
    ids = (source.hub for source in SOURCES.values())
    return next((one for one in ids if origin.startswith(f"{one}@")), None)


def further_origins(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return where each further data set that a run evaluated was read from, by its name."""
    names = list(facts.get("examples", {}))[1:]
    return dict(zip(names, facts.get("further", []), strict=False))


def command_line(files: RunFiles) -> str:
    """Return a command that makes the run again, from what ``run.json`` says.

    A local file of a named data set stands there as ``--source``; further data that were local
    files stand there by their names.
    """
    facts, command = files.facts, files.command
    words = ["nasalign", command, str(facts["model"].get("source") or facts["model"]["name"])]
    words += _data_words("--data", facts.get("data"), facts.get("data_origin"))
    if facts.get("probing_data") != facts.get("data") and command != "evaluate":
        probed = facts.get("probing_data"), facts.get("probing_origin")
        words += _data_words("--probing-data", *probed)
    if command in ("align", "compare"):
        for name, origin in further_origins(facts).items():
            words += _data_words("--eval", name, origin)
    if command == "compare" and facts.get("compare", {}).get("only"):
        words += ["--only", ",".join(facts["compare"]["only"])]
    if command == "evaluate" and facts.get("adapter"):
        words += ["--adapter", str(facts["adapter"])]
    preset, changed = _nearest_preset(files.settings)
    words += ["--preset", preset] if preset != DEFAULT_PRESET else []
    if files.facts.get("budget"):
        words += ["--budget", "none"]  # its counts are among the settings
        changed.pop("budget_minutes", None)
    for name, value in changed.items():
        plain = "none" if value is None else str(value)
        words += ["--set", f"{name}={plain.lower() if isinstance(value, bool) else plain}"]
    return shlex.join([*words, "--out", str(Path("runs") / files.folder.resolve().name)])


def _data_words(option: str, name: str | None, origin: str | None) -> list[str]:
    if not name or (option == "--data" and name == "facts"):
        return []
    path = Path(str(origin))
    own_file = path.stem == name and path.suffix  # that is called as a named data set is
    if name in SOURCES and not own_file:
        paths = str(origin).split(", ") if origin and not published(origin) else []
        return [option, name, *(part for path in paths for part in ("--source", f"{name}={path}"))]
    return [option, name if origin in (None, "", "embedded") else str(origin)]


def _nearest_preset(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The preset from which the fewest settings differ, and those that do.

    A run of an earlier version names no setting that is newer; it had the paper's.
    """
    whole = Settings().as_dict() | dict(settings)

    def changed(name: str) -> dict[str, Any]:
        preset = load_preset(name).as_dict()
        return {
            key: value for key, value in whole.items() if key not in preset or preset[key] != value
        }

    nearest = min(get_args(Preset), key=lambda name: len(changed(name)))
    return nearest, changed(nearest)


def _budget(budget: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The time that a run was given, and the counts that were lowered to it."""
    if not budget["given"]:
        return "no count was lowered"
    counts = (f"{name} {settings[name]} of {old or 'all'}" for name, old in budget["given"].items())
    used = "; the time for tuning was used up" if budget.get("used_up") else ""
    return f"{budget['minutes']:g} minutes: {', '.join(counts)}{used}"


def data_rows(files: RunFiles) -> list[tuple[str, str]]:
    """Return what was asked, where it comes from, how it was split and what was left out."""
    facts = files.facts
    rows = [
        ("Evaluated data", f"{facts.get('data', '?')} ({facts.get('data_origin', '?')})"),
        ("Probed data", f"{facts.get('probing_data', '?')} ({facts.get('probing_origin', '?')})"),
        *(("Further data", str(origin)) for origin in facts.get("further", [])),
    ]
    split = "by the hash of the subject: 50 % probed and tuned on, 20 % development, 30 % test"
    rows.append(("Split", split))
    rows += _titled("Examples of", facts.get("examples", {}))
    if "probing" in facts:
        rows.append(("Probing set", _pairs(facts["probing"])))
    if "judged" in facts:
        rows.append(("Free answers judged", _pairs(facts["judged"])))
    rows += _titled("Left out of", facts.get("dropped", {}))
    rows += _titled("Asked", facts.get("endpoints", {}))
    if halting := halting_rule(files):
        rows.append(("Tuning halts by", halting))
    if budget := facts.get("budget"):
        rows.append(("Budget", _budget(budget, files.settings)))
    if rate := rate_found(files):
        rows.append(("Learning rate", rate))
    return rows


def time_rows(files: RunFiles) -> list[tuple[str, str]]:
    """Return what took how many seconds."""
    timings = files.facts.get("timings", {})
    return [(worded(name), rounded(float(seconds), 1)) for name, seconds in timings.items()]


def setting_rows(files: RunFiles) -> list[tuple[str, str]]:
    """Return all settings by the names that ``--set`` takes."""
    return [(name, short_value(value)) for name, value in files.settings.items()]


def model_rows(files: RunFiles) -> list[tuple[str, str]]:
    """Return what was measured, on what, with which versions."""
    facts, model = files.facts, files.facts["model"]
    size = model.get("parameters", 0)
    rows = [
        ("Model", f"{model.get('source') or model['name']} ({model['architecture']})"),
        *([("Merged into", model["base"])] if model.get("base") else []),
        ("Size", f"{size:,} parameters, {_layers(files)}"),
        ("Computed", f"{model['dtype']} on {model['device']}, {facts.get('threads', '?')} threads"),
        ("Fingerprint", str(model["fingerprint"])),
        ("Seed", str(files.settings.get("seed", 0))),
        ("Versions", _pairs(facts.get("versions", {}))),
        ("Special tokens", _pairs(facts.get("special_tokens", {}))),
    ]
    if isinstance(facts.get("adapter"), dict):
        rows.append(("Adapter", _pairs(facts["adapter"])))
    return rows


def _titled(title: str, found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(f"{title} {name}", _pairs(values)) for name, values in found.items()]


def _layers(files: RunFiles) -> str:
    """How many layers and heads a model has."""
    layers, heads = files.facts["model"]["layers"], files.facts["model"]["heads"]
    if files.head_count == layers * heads:
        return f"{layers} layers of {heads} heads"
    return f"{layers} layers with {files.head_count} heads, at most {heads} in one"


def _pairs(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{worded(name)} {short_value(value)}" for name, value in values.items())


def limits(files: RunFiles, sets: list[DataSet]) -> list[str]:
    """Return what the figures of a run do not say."""
    (yes, no), settings, told = files.words, files.settings, []
    if settings.get("decoder") == "generate":
        told.append(
            "An answer is what the model writes when it decodes greedily, read by its first words; "
            f"what is neither {yes} nor {no} is invalid."
        )
    else:
        told.append(
            f"An answer is the likelier of {yes} and {no} as the first token. Left to write freely "
            "the model may say something else; the decoder generate measures that."
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
    if sets and sets[0].changes:
        _, low, high = sets[0].changes["accuracy"]
        told.append(
            f"With {sets[0].questions:,} questions the accuracy's change is known to within "
            f"{rounded((high - low) / 2, 2)} on either side; smaller effects are not seen here. "
            "Intervals are over questions: another seed or other heads are not in them."
        )
    if files.command == "compare":
        return [
            *told,
            "The rows were chosen on other questions than these, but the best of many rows is the "
            "best in part by luck, and each was fitted once, with one seed.",
            "Seconds and memory are of this machine; memory is what fitting held at its highest "
            "beyond what was held before.",
        ]
    aim, other = (no, yes) if files.to_no else (yes, no)
    return [
        *told,
        f"Tuning raises the share of {aim}. It teaches no facts: where {other} is right more often "
        "than not, or the model does not know, it can cost accuracy.",
    ]
