"""What a run directory holds, read for the report; each file but ``run.json`` may be missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from nasalign.errors import NasAlignError
from nasalign.evaluation.metrics import Array
from nasalign.io.files import read_json, read_jsonl, read_tensors
from nasalign.io.storage import check_no_links
from nasalign.nas.heads import ALIGNMENT, head_counts, list_shares, places, single_head_nas
from nasalign.prompts.wordings import Vocabulary
from nasalign.run_file import read_run

Side = Literal["before", "after"]
Row = dict[str, Any]
SIDES: tuple[Side, ...] = ("before", "after")
COMMANDS = ("align", "compare", "diagnose", "evaluate")
"""The commands whose runs have a report."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Attributes:
        folder: the run directory.
        facts: the content of ``run.json``.
        metrics: ``datasets`` of ``metrics.json``, by data set and side; empty if it is missing.
        rows: rows of ``eval/*.jsonl``, by data set and side.
        heads: ``heads.json``, of falling single head NAS.
        tuning: rows of ``tuning.jsonl``.
        joint: rows of ``joint.jsonl``, an epoch of nasa+ each.
        head_effects: ``head_effects.json``, what each head of nasa+ carries, or None.
        nas: single head NAS over the probing set, [L, H], or None.
        samples: number of samples it is the mean of.
        listed: share of the samples in whose list of Eq. 2 each head is, [L, H], or None.
        threshold: ``threshold.json``: the threshold of log odds with the best balanced accuracy on
            held-back examples; this and the next are None where there is no such file.
        diagnosis: ``diagnosis.json``.
        scenarios: ``scenarios.json``.
        side_effects: ``side_effects.json``.
        attention: ``attention.json``.
        comparison: ``comparison.json``.
        calibration: ``calibration`` of ``metrics.json``; None in a run of an earlier version.
    """

    folder: Path
    facts: dict[str, Any]
    metrics: dict[str, dict[Side, dict[str, Any]]]
    rows: dict[str, dict[Side, list[Row]]]
    heads: list[Row]
    tuning: list[Row]
    joint: list[Row]
    head_effects: dict[str, Any] | None
    nas: Array | None
    samples: int
    listed: Array | None
    threshold: dict[str, Any] | None
    diagnosis: dict[str, Any] | None
    scenarios: dict[str, Any] | None
    side_effects: dict[str, Any] | None
    attention: dict[str, Any] | None
    comparison: dict[str, Any] | None
    calibration: dict[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> "RunFiles":
        """Read a run directory.

        Raises:
            NasAlignError: it is none, a file in it is broken, it holds a link, or no command is
                named that writes reports.
        """
        check_no_links(folder)
        facts = read_run(folder)
        if facts.get("command") not in COMMANDS:
            raise NasAlignError(
                f"{folder} has no report: its run.json names none of the commands "
                f"{', '.join(COMMANDS)} (those of an earlier version name none); run the command "
                "again."
            )
        nas = _nas(folder / "nas.safetensors")
        metrics = _optional(folder / "metrics.json") or {}
        names = (
            *("threshold", "diagnosis", "scenarios", "side_effects", "attention", "comparison"),
            "head_effects",
        )
        return cls(
            folder=folder,
            facts=facts,
            metrics=metrics.get("datasets", {}),
            calibration=metrics.get("calibration"),
            rows=_evaluations(folder / "eval"),
            heads=_optional(folder / "heads.json") or [],
            tuning=_rows(folder / "tuning.jsonl"),
            joint=_rows(folder / "joint.jsonl"),
            nas=None if nas is None else single_head_nas(nas).numpy(),
            samples=0 if nas is None else len(nas),
            listed=None if nas is None else _listed(nas, facts.get("settings", {})).numpy(),
            **{name: _optional(folder / f"{name}.json") for name in names},
        )

    @property
    def command(self) -> str:
        """The command that made the run."""
        return str(self.facts["command"])

    @property
    def decided(self) -> list[Row]:
        """The records of the heads that are done, in the order of their tuning."""
        return [row for row in self.tuning if row["record"] == "head"]

    @property
    def to_no(self) -> bool:
        """Whether a lean to Yes was corrected, so that yes and no are swapped."""
        return bool(self.facts.get("direction", {}).get("chosen") == "positive")

    @property
    def kept(self) -> int:
        """The number of heads whose update was kept."""
        if self.joint:  # all heads together
            return len(self.heads) * any(row["kept"] and row["epoch"] for row in self.joint)
        return sum(row["kept"] for row in self.decided)

    @property
    def head_count(self) -> int:
        """The number of heads of the model; layers may differ in theirs."""
        model = self.facts["model"]
        return int(model.get("all_heads") or model["layers"] * model["heads"])

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.metrics) or self.diagnosis is not None or self.scenarios is not None

    @property
    def name(self) -> str:
        """The model's name as a reader knows it."""
        model = self.facts["model"]
        name = Path(str(model.get("source") or model["name"])).name
        return "The model" if name in ("", "..") else name

    @property
    def words(self) -> tuple[str, str]:
        """The positive and the negative answer word."""
        words = Vocabulary.of(self.settings.get("vocabulary", "yes/no"))
        return words.positive, words.negative

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run."""
        return dict(self.facts.get("settings", {}))


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _rows(path: Path) -> list[Row]:
    return read_jsonl(path) if path.exists() else []


def _nas(path: Path) -> Tensor | None:
    """NAS of the probing set, [N, L, H] float64."""
    try:
        nas = read_tensors(path)["nas"].double() if path.exists() else None
        # none where the words are not named
        return nas if nas is not None and nas.numel() else None
    except (NasAlignError, KeyError) as error:
        raise NasAlignError(f"{path} holds no scores of heads: {error}.") from error


def _listed(nas: Tensor, settings: Mapping[str, Any]) -> Tensor:
    heads = len(places(nas))
    counts = head_counts(ALIGNMENT, settings.get("k"), settings.get("n"), heads)
    return list_shares(nas, counts.k)


def _evaluations(folder: Path) -> dict[str, dict[Side, list[Row]]]:
    """Read ``NAME.SIDE.jsonl``; a name may have dots."""
    found: dict[str, dict[Side, list[Row]]] = {}
    for side in SIDES if folder.is_dir() else ():
        for path in sorted(folder.glob(f"*.{side}.jsonl")):
            found.setdefault(path.name.removesuffix(f".{side}.jsonl"), {})[side] = _rows(path)
    return found
