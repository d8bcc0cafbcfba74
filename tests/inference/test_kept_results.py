"""Results of an untouched model are read back by a later run, and never by a changed model."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from cases import DENIES, case, sets
from fault_tools import done
from nasalign.data.records import BinaryExample
from nasalign.inference import kept_results
from nasalign.inference.generation import Generated, TokenIds, generate
from nasalign.inference.kept_results import KeptResults, weights_digest
from nasalign.inference.scoring import Scores, score
from nasalign.models.loading import fingerprint

Pair = tuple[PreTrainedModel, PreTrainedTokenizerFast]
EXAMPLES = [BinaryExample(f"Is Oslo in {place}?", True) for place in ("Norway", "Peru", "Chad")]
PROMPTS = [TokenIds((5, 6, 7, 8)), TokenIds((9, 10))]
QUICK = ("sides=both", "epochs=2", "n=3", "k=8", "bootstrap_samples=50", "answer_tokens=6")
ASKED_BEFORE = ("parametric.jsonl", "probing.jsonl", "eval/questions.before.jsonl")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setenv("NASALIGN_RESULTS", str(folder))
    return folder


def kept_of(pair: Pair) -> KeptResults:
    found = KeptResults.of(*pair)
    assert found is not None
    return found


def answered(pair: Pair, tokens: int = 4, prompts: list[TokenIds] = PROMPTS) -> tuple[Any, int]:
    """Free answers, and how many of them were kept."""
    kept = kept_of(pair)
    with kept.active():
        found: Generated = generate(*pair, prompts, tokens)
    return found, kept.reused.get("free answers", 0)


def scored(pair: Pair, **how: Any) -> tuple[Scores, int]:
    kept = kept_of(pair)
    with kept.active():
        return score(*pair, EXAMPLES, **how), kept.reused.get("scores", 0)


def test_free_answers_are_read_back_as_they_were(llama: Pair, results: Path) -> None:
    first, none = answered(llama)
    again, two = answered(llama)
    assert (none, two) == (0, 2)
    assert asdict(first) == asdict(again)
    assert [file.stat().st_mode & 0o777 for file in results.iterdir()] == [0o600]


def test_scores_are_read_back_to_the_bit(llama: Pair, results: Path) -> None:
    for how in ({}, {"scenario": "unsure"}, {"record": False}):
        (first, none), (again, all_) = scored(llama, **how), scored(llama, **how)
        assert (none, all_) == (0, 3), how
        assert first.verdicts == again.verdicts
        for name in ("p_positive", "p_negative", "p_unsure", "nas"):
            mine, other = getattr(first, name), getattr(again, name)
            assert mine is other is None or torch.equal(mine, other), name


@pytest.mark.parametrize(
    "how", [{"vocabulary": "true/false"}, {"batch_size": 1}, {"nas_rows": "from_instruction_end"}]
)
def test_another_question_is_asked(llama: Pair, results: Path, how: dict[str, Any]) -> None:
    scored(llama)
    assert scored(llama, **how)[1] == 0


def test_other_tokens_and_other_prompts_are_asked(llama: Pair, results: Path) -> None:
    answered(llama)
    assert answered(llama, tokens=5)[1] == 0
    assert answered(llama, prompts=PROMPTS[::-1])[1] == 0
    assert answered(llama, prompts=PROMPTS[:1])[1] == 0


def test_a_model_that_differs_in_one_weight_is_asked(llama: Pair, results: Path) -> None:
    """Also where ``fingerprint``, which reads the ends of each parameter, sees no difference."""
    model, _ = llama
    answered(llama), scored(llama)
    weight = model.get_input_embeddings().weight
    before = fingerprint(model)
    weight.data[len(weight) // 2, 0] += 0.5
    assert fingerprint(model) == before
    assert answered(llama)[1] == scored(llama)[1] == 0


def test_a_model_of_another_generation_config_is_asked(llama: Pair, results: Path) -> None:
    answered(llama)
    llama[0].generation_config.eos_token_id = 77
    assert answered(llama)[1] == 0


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_damaged_file_is_made_again(llama: Pair, results: Path, content: bytes | None) -> None:
    first, _ = answered(llama)
    (file,) = results.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-7] if content is None else content)
    again, reused = answered(llama)
    assert (asdict(again), reused) == (asdict(first), 0)
    assert file.read_bytes() == whole


def test_nothing_is_kept_outside_of_active_or_where_it_is_off(
    llama: Pair, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_of(llama)
    generate(*llama, PROMPTS, 4)
    assert not results.exists()
    monkeypatch.setenv("NASALIGN_RESULTS", "off")
    assert KeptResults.of(*llama) is None


def test_a_folder_that_cannot_be_written_ends_nothing(llama: Pair, results: Path) -> None:
    results.write_text("a file")
    assert len(answered(llama)[0].texts) == 2


def test_the_least_recently_used_go_first(
    llama: Pair, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_of(llama)
    for number, key in enumerate(("old", "older", "new")):
        kept.keep(key, {"zeros": torch.zeros(1000)}, number)
    for key, age in (("old", 50), ("older", 100), ("new", 0)):
        file = results / f"{key}.safetensors"
        os.utime(file, (1e9 - age, 1e9 - age))
    assert kept.read("older") is not None  # it is the latest now
    monkeypatch.setattr(kept_results, "LIMIT", 9_000)
    kept.keep("newest", {}, None)
    assert {file.stem for file in results.iterdir()} == {"older", "new", "newest"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_digest_sees_every_place(dtype: torch.dtype) -> None:
    model = torch.nn.Linear(7, 9, dtype=dtype)  # of odd sizes: not a multiple of eight bytes
    seen = {weights_digest(model)}
    for row, column in ((0, 0), (4, 3), (8, 6)):
        model.weight.data[row, column] += 1
        seen.add(weights_digest(model))
    model.weight.data = model.weight.data.flip(0)
    seen.add(weights_digest(model))
    model.bias.data[8] += 1
    seen.add(weights_digest(model))
    assert len(seen) == 6


def test_the_digest_is_of_the_content_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(64, 33)
    whole = weights_digest(model)
    monkeypatch.setattr(kept_results, "_CHUNK", 100)
    assert weights_digest(model) == whole


def test_a_second_run_begins_where_it_differs(tmp_path: Path, results: Path) -> None:
    model, data = case(tmp_path, DENIES)
    command = ["align", str(model), "--data", str(data), *sets(QUICK)]
    facts, folders = [], [tmp_path / name for name in ("first", "second", "third")]
    for folder, more in zip(
        folders, (("learning_rate=1e-3",), ("learning_rate=2e-3",), ("reuse=false",)), strict=True
    ):
        done(*command, *sets(more), "--out", folder)
        facts.append(json.loads((folder / "run.json").read_text()))
    assert "reused" not in facts[0]
    assert facts[1]["reused"]["free answers"] > 20
    assert facts[1]["reused"]["scores"] > 20
    assert "reused" not in facts[2]
    for name in ASKED_BEFORE:
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
    first, second, _ = ((folder / "eval/questions.after.jsonl").read_text() for folder in folders)
    assert first != second  # the aligned model is always asked
