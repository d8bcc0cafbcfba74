"""The command that looks at the machine rather than at a model."""

import json
import sys
from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

from nasalign.commands.app import PlainConsole, app
from nasalign.commands.options import AsJson

_STYLES = {"good": "", "note": "yellow", "problem": "bold red"}


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is here to work with, and what is missing: versions, devices, folders, extras.

    Ends with 1 if something stands in the way. No key or token is shown.
    """
    from nasalign.commands.doctor import examine, usable

    findings = examine()
    if as_json:
        found = {"usable": usable(findings), "findings": [asdict(one) for one in findings]}
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        console, part = PlainConsole(), ""
        table = Table(show_header=False, box=None, pad_edge=False)
        for one in findings:
            heading = one.part if one.part != part else ""
            table.add_row(heading, one.name, Text(one.says, style=_STYLES[one.state]))
            part = one.part
        console.print(table)
        problems = [one.name for one in findings if one.state == "problem"]
        says = f"To be mended first: {', '.join(problems)}." if problems else "Ready."
        console.print(says, highlight=False)
    if not usable(findings):
        raise typer.Exit(1)
