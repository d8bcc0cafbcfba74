"""llama.cpp, given the base model and the adapter alone, answers as our aligned model does."""

import json
import os
from pathlib import Path

import pytest

from llama_cpp_adapter import main


@pytest.mark.slow
@pytest.mark.long
def test_llama_cpp_answers_as_we_do_and_would_not_with_patterns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    if not (Path(os.environ.get("LLAMA_CPP", "")) / "convert_lora_to_gguf.py").is_file():
        pytest.skip("LLAMA_CPP does not name a checkout of llama.cpp")
    main(["--json"])
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["prompts"] == 30
    assert len(found["ranks"]) > 1
    assert found["moved"]["mean"] > 0.2
    gaps = {name: most for name, (_, most, _) in found["gaps"].items()}
    others = {name: other for name, (_, _, other) in found["gaps"].items()}
    assert gaps["untouched"] < 0.02
    assert gaps["adapter"] < 0.02
    assert others["untouched"] == others["adapter"] == 0
    assert gaps["adapter with rank_pattern"] > 10 * gaps["adapter"]
