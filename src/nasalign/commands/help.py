"""The help of a command: panels of options, and two examples each."""

from typing import Any

from typer.core import TyperCommand

PANELS = ("Common", "Data", "Advanced")
_COMMON = {
    *("data", "out", "adapter", "limit", "method", "budget", "resume", "preset", "as_json", "help"),
    *("answer", "context", "only", "template", "words", "decoder", "split", "further", "host"),
    *("port", "harness_out", "knowledge", "scenario"),
}
_DATA = {
    *("probing_data", "source", "judge", "generator", "max_calls", "columns", "labels"),
    *("group_by", "strict", "column"),
}
EXAMPLES = {
    "doctor": ("nasalign doctor", "nasalign doctor --json"),
    "diagnose": (
        "nasalign diagnose smollm2-135m --limit 50",
        "nasalign diagnose OWNER/MODEL --data questions.csv",
    ),
    "align": (
        "nasalign align smollm2-135m --out runs/demo",
        "nasalign align OWNER/MODEL --data questions.csv --template prompt.txt --budget 1h",
    ),
    "ask": (
        'nasalign ask smollm2-135m "Is Paris in France?" --adapter runs/demo',
        'nasalign ask smollm2-135m "What is 2 + 2?" --answer 4',
    ),
    "chat": (
        "nasalign chat smollm2-135m --adapter runs/demo",
        "nasalign chat smollm2-135m --json < questions.txt",
    ),
    "serve": (
        "nasalign serve smollm2-135m --adapter runs/demo",
        "nasalign serve OWNER/MODEL --port 8080",
    ),
    "evaluate": (
        "nasalign evaluate smollm2-135m --adapter runs/demo --data strategyqa",
        "nasalign evaluate OWNER/MODEL --data questions.csv --decoder generate",
    ),
    "compare": (
        "nasalign compare smollm2-135m --only threshold,nasa",
        "nasalign compare OWNER/MODEL --data questions.csv --out runs/compared",
    ),
    "export": (
        "nasalign export runs/demo corrected",
        "nasalign export runs/demo corrected.gguf",
    ),
    "report": ("nasalign report runs/demo", "nasalign report runs/compared"),
    "data": (
        "nasalign data facts --out rows.jsonl",
        "nasalign data questions.csv --columns question=claim --out rows.jsonl",
    ),
    "reproduce": (
        "nasalign reproduce table-3 --model OWNER/MODEL",
        "nasalign reproduce all --model OWNER/MODEL --out runs/paper",
    ),
}
"""Two examples a command; a test reads them with the command's own parser."""


class PlainFlags:
    """A command in whose help flags have no type, ``--help`` among them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters with those that are made late, such as ``--help``."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if getattr(one, "is_flag", False):
                one.metavar = ""
        return found


class PlainCommand(PlainFlags, TyperCommand):
    """A command with such a help."""


def with_panels(command: Any) -> Any:
    """Sort a command's options into panels, and add its examples."""

    def panel(parameter: Any) -> int:
        return 0 if parameter.name in _COMMON else 1 if parameter.name in _DATA else 2

    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    for option in options:
        option.rich_help_panel = PANELS[panel(option)]
    command.params = [*arguments, *sorted(options, key=panel)]
    if command.name in EXAMPLES:
        command.epilog = "Examples:\n\n" + "\n\n".join(EXAMPLES[command.name])
    return command
