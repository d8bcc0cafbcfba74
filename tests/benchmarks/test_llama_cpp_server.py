"""llama.cpp's server, given the base and an adapter as GGUF files, says what we say."""

import json
import os
from pathlib import Path

import pytest

from llama_cpp_server import main


@pytest.mark.slow
@pytest.mark.long
def test_the_server_says_what_we_say(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sentencepiece", reason="sentencepiece, for the converter, is missing")
    if not (Path(os.environ.get("LLAMA_CPP", "")) / "build/bin/llama-server").is_file():
        pytest.skip("LLAMA_CPP does not name a checkout of llama.cpp with its server built")
    main(["--json", "--prompts", "8"])
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["prompts"] == 8
    assert set(found["gaps"]) == {"untouched", "adapter", "activated"}
    assert min(found["moved"][name] for name in ("adapter", "activated")) > 0.2
    for _, largest, other_verdicts in found["gaps"].values():
        assert largest < 0.02
        assert other_verdicts == 0
    assert found["free_as_untouched"]["activated"] == 8
    assert found["free_as_untouched"]["adapter"] < 8
