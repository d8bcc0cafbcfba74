"""Settings of a run: defaults of the paper, presets by model size, TOML files and key=value."""

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasalign.errors import NasAlignError, shortened

Decoder = Literal["logits", "generate"]
KeyScope = Literal["group", "none"]
Sides = Literal["one", "both"]
ContextMode = Literal["fit", "all", "supporting", "none"]
SplitChoice = Literal["auto", "test", "development", "all"]
Method = Literal["nasa", "nasa+"]
Selection = Literal["nas", "attribution"]
Kinds = Literal["all", "known"]
Direction = Literal["auto", "negative", "positive"]
Scenario = Literal["plain", "context", "unsure", "cot", "negated"]

SMALL_MODEL_PARAMETERS = 1_000_000_000
"""Models below this size take the preset ``smollm2``, the others ``paper-7b``."""


_COUNTS = (
    "concurrency",
    "probing_questions",
    "tuning_samples",
    "validation_samples",
    "min_true_positives",
    "answer_tokens",
    "reasoning_tokens",
    "learning_rate",
    "epochs",
    "tuning_batch_size",
    "known_pairs",
    "joint_batch_size",
    "joint_learning_rate",
    "joint_epochs",
    "evaluation_questions",
    "bootstrap_samples",
)


_HIGHEST_RATE = 1e30  # beyond, AdamW itself overflows


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the figures of a run; the defaults are the paper's (Section 5.1).

    ``configs/*.toml`` explain each one; a file or ``--set key=value`` overrides them by name.
    """

    # Prompts
    vocabulary: str = "yes/no"
    instruction: str = "nasa"
    chat: bool | None = None
    shots: int = 0
    scenario: Scenario = "plain"
    # Data (Section 3.1.1, Appendix D)
    sides: Sides = "one"
    context: ContextMode = "fit"
    split: SplitChoice = "auto"
    data_revision: str | None = None
    generator: str = "rules"
    judge: str = "match"
    max_calls: int | None = None
    concurrency: int = 8
    # Probing set (Section 4.1)
    direction: Direction = "negative"
    probing_questions: int = 2000
    tuning_samples: int = 1000
    validation_samples: int = 100
    min_true_positives: int = 1
    answer_tokens: int = 24
    # Head selection (Eq. 2-4)
    k: int | None = None
    n: int | None = None
    consistency: float = 0.9
    # Algorithm 1 (Appendix F)
    learning_rate: float = 1e-6
    epochs: int = 30
    tuning_batch_size: int = 32
    rho: float = 0.5
    warmup_ratio: float = 0.03
    k_scope: KeyScope = "group"
    halting_share: float = 0.5
    # nasa+
    method: Method = "nasa"
    selection: Selection = "attribution"
    kinds: Kinds = "all"
    known_pairs: int = 300
    joint_batch_size: int = 8
    joint_learning_rate: float = 1e-5
    joint_epochs: int = 4
    centring: float = 0.1
    kl_weight: float = 1.0
    # Evaluation
    decoder: Decoder = "logits"
    reasoning_tokens: int = 256
    evaluation_questions: int = 1000
    side_effect_questions: int = 200
    bootstrap_samples: int = 2000
    # Everywhere
    batch_size: int | None = None
    replay_gib: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            finite = not isinstance(value, float) or math.isfinite(value)
            _require(finite, name, value, "must be a finite number")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "must be in [0, 2**32)")
        for name in _COUNTS:
            _require(getattr(self, name) > 0, name, getattr(self, name), "must be above 0")
        for name in ("k", "n", "max_calls", "batch_size"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, value, "must be above 0")
        for name in ("learning_rate", "joint_learning_rate"):
            value = getattr(self, name)
            _require(value <= _HIGHEST_RATE, name, value, f"must be at most {_HIGHEST_RATE}")
        for name in ("consistency", "halting_share"):
            value = getattr(self, name)
            _require(0 < value <= 1, name, value, "must lie above 0 and at most at 1")
        _require(0 <= self.warmup_ratio < 1, "warmup_ratio", self.warmup_ratio, "must be in [0, 1)")
        for name, own in (("generator", "rules"), ("judge", "match")):
            value = getattr(self, name)
            known = value in (own, "self") or re.fullmatch(r"openai:\S+", value)
            _require(bool(known), name, value, f"must be {own}, self or openai:MODEL")
        for name in ("shots", "replay_gib", "centring", "kl_weight", "side_effect_questions"):
            value = getattr(self, name)
            _require(value is None or value >= 0, name, value, "must not be negative")

    def replace(self, changes: Mapping[str, Any]) -> "Settings":
        """Returns a copy with some settings changed.

        Raises:
            NasAlignError: a name is unknown, or a value has the wrong type or is out of range.
        """
        hints = typing.get_type_hints(type(self))
        checked = {}
        for name, value in changes.items():
            if name not in hints:
                raise NasAlignError(
                    f"There is no setting {shortened(name)}; the settings are {', '.join(hints)}."
                )
            checked[name] = _check(name, value, hints[name])
        return dataclasses.replace(self, **checked)

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values for ``run.json``."""
        return dataclasses.asdict(self)


def preset_name(parameters: int) -> str:
    """Returns the preset for a model with this number of parameters."""
    return "smollm2" if parameters < SMALL_MODEL_PARAMETERS else "paper-7b"


def load_preset(name: str) -> Settings:
    """Returns the settings of a preset in ``configs/``."""
    return settings_from_file(_presets_folder() / f"{name}.toml")


def settings_from_file(path: Path, base: Settings | None = None) -> Settings:
    """Returns ``base`` (the paper's defaults unless given) with a TOML file's settings on top.

    Raises:
        NasAlignError: the file cannot be read, is not TOML, or has a wrong setting.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NasAlignError(f"Cannot read the settings file {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise NasAlignError(f"{path} is not valid TOML: it is nested too deep.") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise NasAlignError(f"{path} is not valid TOML: {_on_one_line(error)}.") from error
    try:
        return (base or Settings()).replace(values)
    except NasAlignError as error:
        raise NasAlignError(f"{path}: {error}") from error


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Parses ``key=value`` texts; a value is read as TOML, and as plain text if it is not TOML.

    Raises:
        NasAlignError: a text has no ``=``, or more than one line.
    """
    values = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise NasAlignError(f"--set takes key=value, not {shortened(assignment)}.")
        if "\n" in text:
            raise NasAlignError(f"--set takes one line, not {shortened(assignment)}.")
        try:
            values[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            values[name.strip()] = text.strip()
    return values


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _presets_folder() -> Path:
    """The folder of presets: inside an installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise NasAlignError(f"The setting {name} is {_shown(value)}, but it {rule}.")


def _shown(value: object) -> str:
    """A value as messages name it; a number of thousands of digits cannot be written out."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of more than 18 digits"
    return shortened(value) if isinstance(value, str) else repr(value)[:200]


def _check(name: str, value: Any, hint: Any) -> Any:
    """Returns ``value`` if it fits the annotation (an int where a float is asked for, too)."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        _require(
            value in typing.get_args(hint), name, value, f"must be one of {typing.get_args(hint)}"
        )
        return value
    kinds = typing.get_args(hint) if origin is types.UnionType else (hint,)
    if value == "none" and type(None) in kinds:  # TOML, and so --set, has no null
        return None
    if type(value) is int:
        _require(abs(value) < 2**63, name, value, "must have at most 18 digits")
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise NasAlignError(f"The setting {name} takes {wanted}, not {_shown(value)}.")
    return value
