"""What a reproduction leaves: a CSV file and pictures an item, and one document of all."""

import base64
from collections.abc import Sequence
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


def write_result(folder: Path, result: Result) -> None:
    """Write an item's CSV file and its pictures as SVG and PNG."""
    make_subfolder(folder)
    write_text(folder / f"{result.name}.csv", csv_text(result.columns, result.rows))
    for name, chart in result.charts.items():
        drawing = chart.to_json()
        write_text(folder / f"{name}.svg", vl_convert.vegalite_to_svg(drawing))
        write_bytes(folder / f"{name}.png", vl_convert.vegalite_to_png(drawing, scale=SCALE))


def write_document(
    folder: Path, results: Sequence[Result], facts: Sequence[tuple[str, str]]
) -> None:
    """Write the document, which needs no other file.

    ``results`` are in the paper's order, ``facts`` pairs of name and value of what was run.
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


def _item(folder: Path, result: Result) -> dict[str, Any]:
    heading = result.name.replace("-", " ").capitalize()
    item: dict[str, Any] = {"name": result.name, "heading": heading}
    if result.failure:
        return item | {"failure": result.failure}
    header, rows = lay_out(result)
    pictures = [_picture(folder, name) for name in result.charts]
    item |= {"title": result.title, "header": header, "rows": rows}
    item["labels"] = sum(name in result.keys for name in header)
    return item | {"notes": result.notes, "pictures": pictures}


def _picture(folder: Path, name: str) -> dict[str, Any]:
    """A PNG in the document: the text of an SVG may be cut off where its font is missing."""
    content = (folder / f"{name}.png").read_bytes()
    width = int.from_bytes(content[16:20]) // SCALE  # from the header of a PNG
    return {"name": name, "data": base64.b64encode(content).decode(), "width": width}
