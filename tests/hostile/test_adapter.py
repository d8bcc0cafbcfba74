"""What is taken for an adapter of nasalign, PEFT computes as nasalign does, whoever wrote it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from aligned import aligned
from nasalign.adapters.adapter import load_adapter
from nasalign.adapters.adapter_file import CONFIG, FILE, Origin, read_adapter
from nasalign.adapters.rank import reduce_adapter
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.errors import ModelError
from nasalign.io.files import tensor_digest

IDS = torch.randint(5, 500, (2, 20), generator=torch.Generator().manual_seed(3))
Q, K = (f"model.layers.0.self_attn.{name}_proj" for name in "qk")
NAMES = {part: f"base_model.model.{K}.lora_{part}.weight" for part in "AB"}
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, a run with its adapter, the same as the first versions wrote it, and reduced."""
    folder = tmp_path_factory.mktemp("place")
    adapter = aligned(folder) / "adapter"
    file = read_adapter(adapter)
    tensors = {
        f"base_model.model.{module}.lora_{part}.weight": tensor.contiguous()
        for module, pair in file.changes.items()
        for part, tensor in zip("AB", pair, strict=True)
    }
    ranks = {module: len(a) for module, (a, _) in file.changes.items()}
    assert len(set(ranks.values())) > 1
    patterns = {"rank_pattern": ranks, "alpha_pattern": ranks}
    write(folder / "old", json.loads((adapter / CONFIG).read_text()) | patterns, tensors)
    reduce_adapter(adapter, folder / "low", 4)
    return folder


def write(folder: Path, config: Any, tensors: Tensors, origin: Origin | None = None) -> Path:
    """Writes an adapter as one would who knows how the digest is made."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config))
    origin = origin or read_adapter(folder.parent / "run" / "adapter").origin
    content = replace(origin, content=tensor_digest(tensors))
    save_file(tensors, folder / FILE, content.metadata())
    return folder


def copy(place: Path, to: Path, name: str = "run/adapter", **config: Any) -> Path:
    """Writes a copy of an adapter with other values in its configuration."""
    source = place / name
    known = json.loads((source / CONFIG).read_text())
    return write(to, known | config, load_file(source / FILE), read_adapter(source).origin)


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    output: Tensor = model.eval()(IDS).logits
    return output


def check_both_say_the_same(adapter: Path) -> None:
    ours = tiny.build_model("llama")
    load_adapter(adapter, ours).apply(ours)
    theirs = PeftModel.from_pretrained(tiny.build_model("llama"), adapter)
    torch.testing.assert_close(logits(theirs), logits(ours), atol=1e-5, rtol=0)


def test_an_adapter_of_the_first_versions_is_read_and_exported_in_todays_form(
    place: Path, tmp_path: Path
) -> None:
    check_both_say_the_same(place / "old")
    new, old = read_adapter(place / "run" / "adapter"), read_adapter(place / "old")
    assert (old.rows, old.changed_weights) == (new.rows, new.changed_weights)
    export_job(Job(), place / "old", tmp_path / "out", "adapter")
    for name in (CONFIG, FILE):
        ours = (place / "run" / "adapter" / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == ours
    check_both_say_the_same(tmp_path / "out")


OTHER_VALUES = {
    "peft_type": "LOHA",
    "task_type": "SEQ_CLS",
    "auto_mapping": {"base_model_class": "Model", "parent_library": "evil"},
    "revision": "another",
    "r": 16,
    "lora_alpha": 320,
    "lora_dropout": 0.5,
    "rank_pattern": {K: 8},
    "alpha_pattern": {K: -10},
    "use_rslora": True,
    "use_dora": True,
    "fan_in_fan_out": True,
    "bias": "all",
    "lora_bias": True,
    "modules_to_save": ["lm_head"],
    "layers_to_transform": [0],
    "layers_pattern": "layers",
    "exclude_modules": K,
    "target_modules": "all-linear",
    "target_parameters": ["weight"],
    "trainable_token_indices": [1],
    "layer_replication": [[0, 2], [1, 3]],
    "init_lora_weights": "pissa",
    "megatron_core": "evil",
    "inference_mode": False,
    "runtime_config": {},
    "what_a_later_version_knows": 1,
}


@pytest.mark.parametrize("key", OTHER_VALUES)
@pytest.mark.parametrize("name", ["run/adapter", "old"])
def test_another_value_is_refused_by_its_name(
    key: str, name: str, place: Path, tmp_path: Path
) -> None:
    folder = copy(place, tmp_path / "copy", name, **{key: OTHER_VALUES[key]})
    with pytest.raises(ModelError, match=f"is not what nasalign wrote: .*{key}"):
        load_adapter(folder, tiny.build_model("llama"))
    with pytest.raises(ModelError, match="is not what nasalign wrote"):
        export_job(Job(str(place / "model")), folder, tmp_path / "out", "adapter")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("factor", [-10, 0, 0.5, 2])
def test_another_scale_by_a_pattern_is_refused(factor: float, place: Path, tmp_path: Path) -> None:
    ranks = json.loads((place / "old" / CONFIG).read_text())["alpha_pattern"]
    scaled = {module: factor * rank for module, rank in ranks.items()}
    with pytest.raises(ModelError, match="alpha_pattern is"):
        read_adapter(copy(place, tmp_path / "copy", "old", alpha_pattern=scaled))


@pytest.mark.parametrize("key", ["r", "lora_alpha", "target_modules", "peft_type", "task_type"])
def test_what_is_left_out_is_what_peft_takes_for_it(key: str, place: Path, tmp_path: Path) -> None:
    folder = copy(place, tmp_path / "copy")
    config = json.loads((folder / CONFIG).read_text())
    del config[key]
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"{key} is"):
        read_adapter(folder)


A, B = NAMES["A"], NAMES["B"]
BREAKS: dict[str, Callable[[Tensors], object]] = {
    "scaled": lambda found: found[B].mul_(3),
    "two in a row": lambda found: found[B][:, 1].copy_(found[B][:, 0]),
    "two in a column": lambda found: found[B][30:32, 0].fill_(1),
    "swapped": lambda found: found.update({B: found[B][:, [1, 0, *range(2, 32)]]}),
    "a change in the filling": lambda found: found[A][-1].fill_(1),
    "a gap in the filling": lambda found: found[B][:, 3].zero_(),
    "not finite": lambda found: found[A][0, 0].fill_(torch.inf),
    "half": lambda found: found.update({A: found[A].half()}),
    "narrow": lambda found: found.update({B: found[B][:, :7].contiguous()}),
    "one alone": lambda found: found.pop(B),
    "one more": lambda found: found.update({"base_model.model.lm_head.weight": torch.ones(2, 2)}),
    "without its prefix": lambda found: found.update(
        {name.removeprefix("base_model.model."): found.pop(name) for name in (A, B)}
    ),
    "nothing": lambda found: found.clear(),
}


@pytest.mark.parametrize("breaks", BREAKS)
def test_tensors_that_do_not_put_rows_into_their_places_are_refused(
    breaks: str, place: Path, tmp_path: Path
) -> None:
    source = place / "run" / "adapter"
    tensors = load_file(source / FILE)
    BREAKS[breaks](tensors)
    config = json.loads((source / CONFIG).read_text())
    write(tmp_path / "copy", config, tensors, read_adapter(source).origin)
    with pytest.raises(ModelError, match="is not what nasalign wrote: "):
        read_adapter(tmp_path / "copy")


@pytest.mark.parametrize("module", ["lm_head", "model.norm", "model.layers.9.x"])
def test_a_module_that_is_no_linear_one_is_refused(
    module: str, place: Path, tmp_path: Path
) -> None:
    source = place / "run" / "adapter"
    config = json.loads((source / CONFIG).read_text())
    named = sorted([*config["target_modules"], module])
    with pytest.raises(ModelError, match="target_modules is"):
        read_adapter(copy(place, tmp_path / "named", target_modules=named))
    tensors = load_file(source / FILE)
    tensors |= {name.replace(K, module): tensors[name].clone() for name in NAMES.values()}
    origin = read_adapter(source).origin
    write(tmp_path / "copy", config | {"target_modules": named}, tensors, origin)
    with pytest.raises(ModelError, match=r"was made for .* another model"):
        load_adapter(tmp_path / "copy", tiny.build_model("llama"))


def test_a_reduced_adapter_changes_the_rows_that_it_says(place: Path, tmp_path: Path) -> None:
    low = place / "low"
    check_both_say_the_same(low)
    config, tensors = json.loads((low / CONFIG).read_text()), load_file(low / FILE)
    origin = read_adapter(low).origin
    reduction = origin.reduction
    assert reduction
    rows = reduction.rows[K]
    others: list[Any] = [rows[1:], rows[::-1], [*rows, 32], [-1, *rows], [], [*rows, rows[-1]]]
    wrong: list[tuple[str, dict[str, Any]]] = [
        *(
            (
                r"it changes other rows of .*k_proj' than it says",
                {"rows": reduction.rows | {K: mine}},
            )
            for mine in others
        ),
        ("it is not reduced as it says", {"rank": 5}),
        ("it is not reduced as it says", {"rows": {K: rows}}),
        ("was not written by nasalign", {"rows": reduction.rows | {K: "all"}}),
        ("was not written by nasalign", {"rank": "4"}),
    ]
    for sentence, values in wrong:
        said = replace(origin, reduction=replace(reduction, **values))
        write(tmp_path / "copy", config, tensors, said)
        with pytest.raises(ModelError, match=sentence):
            read_adapter(tmp_path / "copy")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-40, 40),
    st.sampled_from(["all", "LORA", "CAUSAL_LM", K, "q_proj", "gaussian", 0.5, 32.0]),
    st.lists(st.sampled_from([0, 1, K, Q, "lm_head"]), max_size=3),
    st.dictionaries(st.sampled_from([K, Q, "k_proj", ".*"]), st.integers(-20, 40), max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_accepted_is_the_same_model_by_peft(place: Path, data: st.DataObject) -> None:
    source = place / data.draw(st.sampled_from(["run/adapter", "old", "low"]))
    config, tensors = json.loads((source / CONFIG).read_text()), load_file(source / FILE)
    for key in data.draw(st.lists(st.sampled_from(sorted(OTHER_VALUES)), max_size=1)):
        config[key] = data.draw(VALUES)
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(tensors)))
        column = data.draw(st.integers(0, tensors[name].shape[1] - 1))
        tensors[name][:, column] *= data.draw(st.sampled_from([1.0, 0.0, -1.0, 2.0]))
    write(place / "copy", config, tensors, read_adapter(source).origin)
    try:
        load_adapter(place / "copy", tiny.build_model("llama"))
    except ModelError:
        return
    check_both_say_the_same(place / "copy")


def test_the_metadata_hold_nothing_but_what_is_read(place: Path) -> None:
    with safe_open(place / "run" / "adapter" / FILE, framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["nasalign"]
    more = json.dumps(json.loads(metadata["nasalign"]) | {"more": 1})
    assert Origin.of({"nasalign": more}) in (None, Origin.of(metadata))
