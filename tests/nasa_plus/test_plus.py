"""nasa+ in memory: samples of both labels and several kinds, rows of the chosen heads alone."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import nasalign
import plain_reader
import tiny
from nasalign.adapters.adapter import load_adapter
from nasalign.config import Settings
from nasalign.data.records import Question, load_facts
from nasalign.errors import DataError, OutOfMemoryError
from nasalign.head_rows.rows import head_slices
from nasalign.io.files import read_json, read_jsonl
from nasalign.models.geometry import HeadGeometry
from nasalign.nasa.knowledge import what_it_knows
from nasalign.nasa.probing import ProbingSet, probing_set
from nasalign.nasa_plus.attribution import attribution
from nasalign.nasa_plus.joint_run import USUAL, pairs_by_kind, rendered
from nasalign.nasa_plus.kinds import Pair, held_back
from nasalign.progress import Quiet
from nasalign.run import Run
from nasalign.session import Session

SETTINGS = Settings(
    method="nasa+",
    answer_tokens=6,
    joint_heads=3,
    known_pairs=36,
    joint_epochs=2,
    joint_learning_rate=1e-2,
)
QUESTIONS = load_facts("probing")[:40]
Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@pytest.fixture(autouse=True)
def knows_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the judge find every other answer right; the tiny model knows nothing."""

    def judge(
        questions: list[Question], answers: object, *rest: object, **how: object
    ) -> list[bool]:
        return [place % 2 == 0 for place in range(len(questions))]

    monkeypatch.setattr("nasalign.nasa.knowledge.judge", judge)


def probed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[Session, ProbingSet, dict[str, list[Pair]]]:
    model.requires_grad_(False)
    session = Session(model, tokenizer, SETTINGS)
    asked = what_it_knows(session, QUESTIONS)
    probing = probing_set(session, asked)
    return session, probing, pairs_by_kind(session, asked, probing)


def changed(before: dict[str, torch.Tensor], model: PreTrainedModel) -> set[str]:
    after = model.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_kinds_and_the_subjects_held_back(llama: Llama) -> None:
    model, tokenizer = llama
    session, probing, kinds = probed(model, tokenizer)
    expected = {"known": 20, "unknown": 12, "direct": 18, "context": 18, "numbers": 12}
    assert {kind: len(pairs) for kind, pairs in kinds.items()} == expected
    known = {one.question.question for one in probing.samples}
    assert all(pair.right.question in known for pair in kinds["known"])
    assert not any(pair.right.question in known for pair in kinds["unknown"])
    samples = rendered(session, kinds, probing)
    tuning, validation = samples.tuning, samples.validation
    assert len(tuning) + len(validation) == 80
    assert all(one.right.text != one.wrong.text for one in tuning)
    apart = {pair.subject: held_back(pair.subject, 0) for part in kinds.values() for pair in part}
    expected = sum(apart[pair.subject] for part in kinds.values() for pair in part)
    assert 0 < len(validation) == expected
    assert len(samples.free) == 20  # the answers that were right
    without = rendered(session.with_settings(kl_weight=0.0), kinds, probing)
    assert (without.tuning, without.free) == (tuning, [])
    one = nasalign.BinaryExample("Is it?", True)
    with pytest.raises(DataError, match="too few questions"):
        rendered(session, {"known": [Pair("it", one, one)]}, probing)


def test_pairs_that_are_too_long_for_the_model_are_left_out_and_said(llama: Llama) -> None:
    model, tokenizer = llama
    lines: list[str] = []

    class Listening(Quiet):
        def say(self, text: str) -> None:
            lines.append(text)

    settings = SETTINGS.replace({"kinds": "all"})
    session = Session(model, tokenizer, settings, Run(reporter=Listening()))
    asked = what_it_knows(session, QUESTIONS)
    kinds = pairs_by_kind(session, asked, probing_set(session, asked))
    assert kinds.keys() == {*USUAL, "negated", "compared", "unknowable"}
    assert any("5 of 5 pairs of the kind long exceed the model's context" in one for one in lines)
    model.config.max_position_embeddings = 4096
    assert len(pairs_by_kind(session, asked, probing_set(session, asked))["long"]) == 5


def test_what_was_tuned_is_not_lost_where_memory_does_not_suffice_to_explain_it(
    llama: Llama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OutOfMemoryError("There is no memory.")

    monkeypatch.setattr("nasalign.nasa_plus.joint_run.head_effects", fails)
    model, tokenizer = llama
    run = Run(folder=tmp_path)
    result = nasalign.align(model, tokenizer, QUESTIONS, run=run, settings=SETTINGS)
    assert result.kept
    assert not (tmp_path / "head_effects.json").exists()


@pytest.mark.parametrize("outputs", [True, False])
@pytest.mark.parametrize("selection", ["attribution", "nas"])
def test_only_the_chosen_heads_change(
    llama: Llama, tmp_path: Path, selection: str, outputs: bool
) -> None:
    model, tokenizer = llama
    before = tiny.state(model)
    run = Run(folder=tmp_path)
    settings = SETTINGS.replace({"selection": selection, "k": 6, "joint_outputs": outputs})
    result = nasalign.align(model, tokenizer, QUESTIONS, run=run, settings=settings)
    heads = [(row["layer"], row["head"]) for row in read_json(tmp_path / "heads.json")]
    assert result.kept == heads == [head[:2] for head in result.heads]
    if selection == "attribution":
        assert len(heads) == 3
    rows = read_jsonl(tmp_path / "joint.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert set(rows[0]["accuracy"]) == set(USUAL)
    carried = read_json(tmp_path / "head_effects.json")
    assert sorted((row["layer"], row["head"]) for row in carried["heads"]) == sorted(heads)
    assert carried["kept"][-1]["heads"] == len(heads)
    geometry, size = HeadGeometry.of(model), 16
    slices = [where for head in heads for where in head_slices(geometry, *head, "group")]
    columns = {}
    for layer, head in heads:
        name = f"model.layers.{layer}.self_attn.o_proj.weight"
        columns.setdefault(name, set()).update(range(head * size, (head + 1) * size))
    expected = {f"{where.module}.weight" for where in slices}
    values = {geometry.rows(*head).value for head in heads}
    if outputs:
        expected |= set(columns) | {f"{where.module}.weight" for where in values}
    assert changed(before, model) == expected
    for name, own in columns.items():
        moved = (before[name] != model.state_dict()[name]).any(dim=0).nonzero().flatten()
        assert set(moved.tolist()) == (own if outputs else set())
    state = tiny.state(model)
    result.adapter.revert(model)
    assert not changed(before, model)
    result.adapter.save(tmp_path / "adapter", "base")
    assert read_json(tmp_path / "adapter" / "adapter_config.json")["r"] == 8
    load_adapter(tmp_path / "adapter", model).apply(model)
    assert tiny.same(state, model)
    merged = plain_reader.merged(before, tmp_path / "adapter")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-6, atol=1e-6)


def test_the_heads_are_those_of_highest_attribution(llama: Llama, tmp_path: Path) -> None:
    model, tokenizer = llama
    session, probing, kinds = probed(model, tokenizer)
    tuning = rendered(session, kinds, probing).tuning
    norms = attribution(model, [(one.right, one.wrong) for one in tuning if one.kind == "known"])
    result = nasalign.align(
        model, tokenizer, QUESTIONS, run=Run(folder=tmp_path), settings=SETTINGS
    )
    best = sorted(norms.flatten().tolist(), reverse=True)[:3]
    assert [float(norms[head[:2]]) for head in result.heads] == pytest.approx(best)
    written = [row["attribution"] for row in read_json(tmp_path / "heads.json")]
    assert written == pytest.approx(best)


def test_after_an_error_the_model_is_as_it_was(
    llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = llama
    before = tiny.state(model)

    def interrupted(record: object) -> str:
        if record.epoch == 1:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr("nasalign.nasa_plus.joint_run._sentence", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nasalign.align(model, tokenizer, QUESTIONS, settings=SETTINGS)
    assert not changed(before, model)
