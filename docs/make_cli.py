"""Writes docs/cli.md, the help of every command, from the command line itself.

    python docs/make_cli.py

A test fails when the page is not what this script writes.
"""

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from nasalign.commands import app
from nasalign.commands.app import load_command

PAGE = Path(__file__).with_name("cli.md")
HEAD = """\
# Commands

This page is written by `docs/make_cli.py` from the commands themselves; `nasalign COMMAND --help`
says the same. Every command exits with 0 when it did what was asked, and with 2 and one sentence
when it could not.

"""


def page() -> str:
    """Returns the page."""
    group = typer.main.get_command(app)
    group.commands = {name: load_command(name) for name in group.commands}
    context = typer.Context(group, info_name="nasalign")
    text = get_docs_for_click(obj=group, ctx=context, name="nasalign", title="nasalign")
    _, *parts = re.split(r"^## `nasalign (.+)`$", text, flags=re.MULTILINE)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    first = {name: body.strip().splitlines()[0] for name, body in bodies.items()}
    index = "\n".join(f"* [`{name}`](#{name}): {line}" for name, line in first.items())
    sections = "".join(f"\n## {name}\n\n{body.strip()}\n" for name, body in bodies.items())
    lines = f"{HEAD}{index}\n{sections}".replace("\n**Usage**:\n", "").splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
