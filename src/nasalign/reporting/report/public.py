"""A run as others may see it: without paths of this machine, and no file called a data set."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasalign.data.sources import SOURCES
from nasalign.models.names import public_name
from nasalign.reporting.report.run_folder import RunFiles


def public(files: RunFiles) -> RunFiles:
    """Returns a run whose paths are cut to their last names, wherever its facts name them."""
    facts, model = files.facts, files.facts["model"]
    source = str(model.get("source") or model["name"])
    known_as = public_name(source) if os.sep in source else source
    names = {source: known_as, str(model["name"]): known_as}
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
    """Returns the id on the hub of data that were read from there; a file's name is none."""
    ids = (source.hub for source in SOURCES.values())
    return next((one for one in ids if origin.startswith(f"{one}@")), None)


def further_origins(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns where each further data set that a run evaluated was read from, by its name."""
    names = list(facts.get("examples", {}))[1:]
    return dict(zip(names, facts.get("further", []), strict=False))
