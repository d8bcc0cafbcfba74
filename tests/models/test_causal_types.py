"""Every causal type that transformers names works, or is refused by one sentence."""

from pathlib import Path

import pytest

import sweep
from pages import script


@pytest.mark.parametrize("model_type", sweep.CAUSAL)
def test_a_type_does_what_the_page_says(model_type: str, tmp_path: Path) -> None:
    sweep.compare(model_type, tmp_path)


def test_the_page_has_a_row_for_each_type_and_nothing_else() -> None:
    room = script("make_families")
    known = room.read()
    assert set(known) == {*sweep.CAUSAL, *sweep.MULTIMODAL}
    assert room.PAGE.read_text(encoding="utf-8") == room.page(known.values())


def test_most_decoders_work_and_what_people_load_among_them() -> None:
    known = script("make_families").read()
    works = {name for name, one in known.items() if one.works}
    assert len(works & set(sweep.CAUSAL)) >= 110
    assert len(works & set(sweep.MULTIMODAL)) >= 50
    assert set(PEOPLE_LOAD) <= works


PEOPLE_LOAD = (
    *("llama", "mistral", "mixtral", "gpt2", "gpt_oss", "phi3", "qwen2", "qwen3", "qwen3_moe"),
    *("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_next", "gemma3", "gemma3_text"),
    *("gemma3n_text", "gemma4", "gemma4_text", "deepseek_v2", "deepseek_v3", "glm_moe_dsa"),
    *("kimi_linear", "kimi_k25", "granitemoehybrid", "nemotron_h", "jamba", "bamba", "zamba2"),
    *("lfm2", "lfm3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "mistral3", "glm4v"),
    *("glm46v", "internvl", "llava", "llava_next", "llava_onevision", "smolvlm", "idefics3"),
    *("mllama", "llama4", "voxtral", "qwen2_audio", "phi4_multimodal"),
)
