"""What a reproduction leaves: a CSV file and pictures an item, and one document of all."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, select_autoescape

from nasalign.io.files import csv_text
from nasalign.io.storage import make_subfolder, write_bytes, write_text
from nasalign.reproduction.layout import lay_out
from nasalign.reproduction.result import Result

DOCUMENT = "reproduction.html"
SCALE = 2  # pixels a point of a PNG


@dataclass(frozen=True)
class Failure:
    """An item that could not be made, and why."""

    name: str
    reason: str


def write_result(folder: Path, result: Result) -> None:
    """Write an item's CSV file and its pictures as SVG and PNG."""
    make_subfolder(folder)
    write_text(folder / f"{result.name}.csv", csv_text(result.columns, result.rows))
    for name, chart in result.charts.items():
        drawing = chart.to_json()
        write_text(folder / f"{name}.svg", vl_convert.vegalite_to_svg(drawing))
        write_bytes(folder / f"{name}.png", vl_convert.vegalite_to_png(drawing, scale=SCALE))


def write_document(
    folder: Path, results: Sequence[Result | Failure], facts: Sequence[tuple[str, str]]
) -> None:
    """Write the document, which needs no other file.

    Args:
        folder: where the items were written.
        results: the items in the paper's order.
        facts: what was run, as pairs of name and value.
    """
    templates = Environment(
        loader=PackageLoader("nasalign.reproduction"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    items = [_item(folder, result) for result in results]
    page = templates.get_template("reproduction.html.j2").render(items=items, facts=facts)
    write_text(folder / DOCUMENT, page)


def _item(folder: Path, result: Result | Failure) -> dict[str, Any]:
    item: dict[str, Any] = {
        "name": result.name,
        "heading": result.name.replace("-", " ").capitalize(),
    }
    if isinstance(result, Failure):
        return item | {"failure": result.reason}
    header, rows = lay_out(result)
    pictures = [
        {"name": name, "data": base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()}
        for name in result.charts
    ]
    item |= {"title": result.title, "header": header, "rows": rows}
    return item | {"notes": result.notes, "pictures": pictures}
