"""Lets the navigation name pages that a checkout may lack, without a broken link in the site."""

from pathlib import Path
from typing import Any

OPTIONAL = ("families.md", "reliability.md")


def on_config(config: Any) -> Any:
    """Drops the optional pages that are not there from the navigation."""
    config.nav = [_present(entry, Path(config.docs_dir)) for entry in config.nav]
    return config


def _present(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, dict):
        return entry
    [(title, value)] = entry.items()
    if not isinstance(value, list):
        return entry
    names = [(one, next(iter(one.values())) if isinstance(one, dict) else one) for one in value]
    return {title: [one for one, name in names if name not in OPTIONAL or (folder / name).exists()]}
