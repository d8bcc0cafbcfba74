"""What nasalign leaves: its command line is run, and its files are read as plain JSON and CSV."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

Row = dict[str, Any]
SETS = ("strategyqa", "musique", "gsm8k-rephrased", "math-rephrased", "ar-lsat")
DOMAINS = ("strategyqa", "gsm8k-rephrased", "ar-lsat")
FREE = ("musique", "gsm8k-rephrased", "ar-lsat")
BEFORE, AFTER = "untouched", "nasa"


def nasalign(*arguments: str, **environment: str) -> str:
    """Runs a command of nasalign and returns what it printed; ends with its message if it fails."""
    command = [sys.executable, "-P", "-m", "nasalign", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


@dataclass(frozen=True)
class Produced:
    """A folder of ``nasalign reproduce`` with one model."""

    folder: Path

    @cached_property
    def model(self) -> Path:
        """The folder of the model's measurements."""
        (found,) = self.folder.glob("*/study.json")
        return found.parent

    @cached_property
    def facts(self) -> Row:
        return self._json(self.model / "study.json")

    @property
    def settings(self) -> Row:
        return dict(self.facts["settings"])

    def table(self, name: str, source: str = "ours") -> list[Row]:
        """Rows of an item's CSV file, of ours or of the paper."""
        path = self.folder / f"{name}.csv"
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if row["source"] == source]

    def rows(self, name: str, form: str = BEFORE, wording: str = "plain") -> list[Row]:
        """Verdicts of a data set."""
        return self._lines(self.model / form / f"{name}.{wording}.jsonl")

    def free(self, name: str, form: str = BEFORE) -> list[Row]:
        """Free answers to the questions of a data set."""
        return self._lines(self.model / form / f"{name}.free.jsonl")

    def nas(self, name: str, form: str = BEFORE) -> list[list[list[float]]]:
        """NAS of a data set, [N][L][H]."""
        return self._nas(self.model / form / f"{name}.plain.safetensors")

    @cached_property
    def parametric(self) -> list[Row]:
        return self._lines(self.model / "probing" / "parametric.jsonl")

    @cached_property
    def probing(self) -> list[Row]:
        return self._lines(self.model / "probing" / "probing.jsonl")

    @cached_property
    def probing_nas(self) -> list[list[list[float]]]:
        return self._nas(self.model / "probing" / "nas.safetensors")

    def tuned(self, form: str = AFTER) -> Row:
        return self._json(self.model / form / "tuned.json")

    def tuning(self, form: str = AFTER) -> list[Row]:
        return self._lines(self.model / form / "tuning.jsonl")

    def adapter(self, form: str = AFTER) -> Path | None:
        found = self.model / form / "adapter"
        return found if found.is_dir() else None

    def _json(self, path: Path) -> Row:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def _lines(self, path: Path) -> list[Row]:
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _nas(self, path: Path) -> list[list[list[float]]]:
        return load_file(path)["nas"].tolist() if path.exists() else []


def reproduce(folder: Path, model: str, data: Path, sizes: Sequence[str]) -> Produced:
    """Runs ``nasalign reproduce all``; what is there already is used."""
    nasalign(
        *("reproduce", "all", "--model", model, "--data-dir", str(data), "--out", str(folder)),
        *sizes,
    )
    return Produced(folder)
