"""Writes configs/*.toml and docs/settings.md from the settings themselves (``nasalign.config``).

    python docs/make_settings.py

The values of ``fast.toml`` and ``reproduction.toml`` are read from these files; all else is written
anew. A test fails when a file is not what this script writes.
"""

import json
import textwrap
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nasalign.config import Settings

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("settings.md")
PRESETS = {
    "paper": (
        "The paper's settings (Section 5.1, Section 4.2), which `--preset paper` takes. Each line "
        "is a default; `--set key=value` overrides one of them, `--config FILE` many. A line that "
        "begins with # shows an example of a setting that is unset."
    ),
    "reproduction": (
        "The paper's whole protocol: `nasalign reproduce all --config configs/reproduction.toml` "
        "(docs/reproduce.md). It needs an endpoint with GPT-4. The lines are those of paper.toml "
        "but for those with a comment, which says what that has."
    ),
    "fast": (
        "What every model takes unless another preset or a file is given: counts for a laptop, and "
        "a learning rate that is found. Measured on the development split of the facts "
        "(docs/log.md). The lines are those of paper.toml but for those with a comment, which says "
        "what the paper took."
    ),
}
SECTIONS = {  # first setting of each section -> its title
    "vocabulary": "Prompts",
    "sides": "Data (Section 3.1.1, Appendix D)",
    "direction": "Probing set (Section 4.1)",
    "k": "Heads and their NAS (Eq. 1-4)",
    "learning_rate": "Algorithm 1 (Appendix F)",
    "method": "nasa+ (docs/study.md)",
    "decoder": "Evaluation",
    "budget_minutes": "Everywhere",
}
EXAMPLES = {  # of settings that are unset by default
    "template": "{question} Yes or No?",
    "system": "Be strict.",
    "date": "2026-01-31",
    "chat": True,
    "data_revision": "main",
    "max_calls": 1000,
    "joint_heads": 27,
    "endpoint_model": "openai:gpt-4",
    "budget_minutes": 30.0,
    "batch_size": 32,
    "replay_gib": 4.0,
}
REASONS = {  # why a preset takes another value than the paper's defaults
    "context": "Table 14 begins with a supporting paragraph; the paper does not say which it took",
    "generator": "Appendix D.1",
    "judge": "Section 6.1, Appendix E",
    "decoder": "answers are decoded and read",
    "evaluation_sizes": "Table 8",
    "endpoint_model": "Figure 1",
    "k": "scaled down with the model's heads",
    "n": "as k",
    "study_k": "as k",
    "study_n": "as k",
    "sides": "twice the examples for few questions; intervals are by question",
    "direction": "whether it denies right answers or affirms wrong ones more often",
    "probing_questions": "a third of them is known, which is enough for D and V below",
    "tuning_samples": "three batches an epoch",
    "min_true_positives": "a tau of fewer samples is noise: the share of Yes stands in for it",
    "learning_rate": "found on the first head",
    "balance_pairs": "unused with its halting",
    "cancellation": "a head that raises the model's NAS seldom comes back below its start",
    "halting": "V holds known answers, which are affirmed more readily than others",
    "line_search": "an epoch that goes too far is shortened",
    "side_effect_questions": "half a minute",
    "budget_minutes": "15 minutes on a CPU, where the whole may take hours",
}
HEAD = """\
---
hide: [toc]
---

# Settings

This page is written by `docs/make_settings.py` from `nasalign.config`.

A setting is changed one at a time with `--set key=value`, or many at once with a TOML file:

```toml title="mine.toml"
learning_rate = 2e-4
epochs = 2
bootstrap_samples = 200
```

```sh
nasalign align MODEL --config mine.toml --set epochs=3 --out runs/configured
```

What the file does not name has the value of the paper, or of the preset; `--set` wins over the
file, and `none` unsets a setting that can be unset. An unknown name or a value of the wrong type is
refused before anything is loaded. `run.json` has all settings of a run.

Without `--config`, every model takes the preset `fast` (`configs/fast.toml`), or with
`--preset paper` the settings of the paper (`configs/paper.toml`). A file that is given with
`--preset` is on top of that preset.
"""


def explanations() -> dict[str, str]:
    """Returns the explanation of each setting, in order."""
    fields: dict[str, Any] = Settings.__pydantic_fields__  # type: ignore[attr-defined]
    return {name: " ".join(field.description.split()) for name, field in fields.items()}


def values_of(preset: str) -> dict[str, Any]:
    """Returns the settings that a preset names, in order."""
    if preset == "paper":
        return Settings().as_dict()
    text = (ROOT / "configs" / f"{preset}.toml").read_text(encoding="utf-8")
    return Settings().as_dict() | tomllib.loads(text)


def toml(preset: str) -> str:
    """Returns the text of a preset's file."""
    paper, explained = Settings().as_dict(), explanations()
    lines = textwrap.wrap(PRESETS[preset], 100, initial_indent="# ", subsequent_indent="# ")
    for name, value in values_of(preset).items():
        if name in SECTIONS:
            lines += ["", f"# --- {SECTIONS[name]}"]
        start = f"{name} = {json.dumps(value) if value == 'none' else _toml(value)}"
        if value is None and preset == "paper":
            start = f"# {name} = {_toml(EXAMPLES[name])}"
        if preset == "paper":
            lines += _commented(start, explained[name])
        elif value is not None:
            mine = preset == "reproduction"
            lines += _commented(
                start, _why(name, value, paper[name], "default" if mine else "paper")
            )
    return "\n".join(lines) + "\n"


def page() -> str:
    """Returns the page of the documentation."""
    fast, hints, text = values_of("fast"), get_type_hints(Settings), HEAD
    paper = Settings().as_dict()
    for name, explanation in explanations().items():
        if name in SECTIONS:
            text += f"\n## {SECTIONS[name]}\n\n| setting | takes | paper | fast | |\n"
            text += "| --- | --- | --- | --- | --- |\n"
        both = (_toml(values[name]) for values in (paper, fast))
        cells = [f"`{name}`", _kind(hints[name]), *both, explanation]
        text += f"| {' | '.join(cells)} |\n"
    return text


def _why(name: str, value: object, other: object, whose: str) -> str:
    if value == other:
        return ""
    return f"{whose}: {_toml(other)}{'; ' * bool(REASONS.get(name))}{REASONS.get(name, '')}"


def _commented(start: str, comment: str) -> list[str]:
    if not comment:
        return [start]
    if len(start) > 60:  # the comment stands above a long line
        return [*textwrap.wrap(comment, 98, initial_indent="# ", subsequent_indent="# "), start]
    first, *more = textwrap.wrap(comment, 68)
    return [f"{start:<29} # {first}", *(f"{'':<29} # {line}" for line in more)]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    return "unset" if value in (None, "none") else json.dumps(value).replace("e-0", "e-")


def _kind(hint: Any) -> str:
    """The type of a setting as a reader knows it."""
    if get_origin(hint) is Literal:
        return ", ".join(map(json.dumps, get_args(hint)))
    if get_origin(hint) is dict:
        return "table of whole numbers"
    if type(None) in get_args(hint):
        hint = get_args(hint)[0]
    if Literal["auto"] in get_args(hint):
        return 'number or "auto"'
    return {int: "whole number", float: "number", bool: "true or false", str: "text"}[hint]


if __name__ == "__main__":
    for preset in PRESETS:
        (ROOT / "configs" / f"{preset}.toml").write_text(toml(preset), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
