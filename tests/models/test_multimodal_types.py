"""Every multimodal type with a text model inside works by text, or is refused by one sentence."""

from pathlib import Path

import pytest

import sweep


@pytest.mark.parametrize("model_type", sweep.MULTIMODAL)
def test_a_type_does_what_the_page_says(model_type: str, tmp_path: Path) -> None:
    sweep.compare(model_type, tmp_path)
