"""The notebook runs from its first cell to its last, on the embedded model."""

import re

import pytest

from pages import script


@pytest.mark.long
@pytest.mark.slow
def test_the_notebook_corrects_the_embedded_model() -> None:
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason="the documentation's packages are not here")
    room = script("make_notebook")
    notebook = room.executed()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    printed = "".join(one["text"] for one in outputs if one.output_type == "stream")
    assert re.search(r"^60 examples, [0-3] of them affirmed$", printed, re.M)  # it says No
    assert printed.count(", kept") >= 1
    drawn = [one.data for one in outputs if one.output_type == "execute_result"]
    assert [("image/svg+xml" in data) for data in drawn] == [True, True]
