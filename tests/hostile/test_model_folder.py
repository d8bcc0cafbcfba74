"""A model's folder runs no code: neither its own Python, nor a pickle, nor its chat template."""

import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
from packaging.requirements import Requirement

import fault_tools
import tiny
from fault_tools import invoke, said
from nasalign.adapters.adapter import load_adapter
from nasalign.data.records import BinaryExample
from nasalign.errors import ModelError, PromptError
from nasalign.models.loading import load
from nasalign.prompts import template, template_worker
from nasalign.prompts.builder import PromptBuilder

PICKLES = ("pytorch_model.bin", "adapter_model.bin", "model.pt", "model.ckpt", "training_args.bin")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that hostile code would write."""
    return tmp_path / "the-code-ran"


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(name: Path) -> str:
    """Loads a model that must be refused, by the function and by the command."""
    with pytest.raises(ModelError) as caught:
        load(str(name), device="cpu")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert fault_tools.refused(invoke("ask", name, "Is it?", "--device", "cpu")) == " ".join(
        sentence.split()
    )
    return sentence


def own_code(folder: Path, marker: Path, known: bool) -> None:
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    code += "from transformers import LlamaConfig, LlamaForCausalLM\n"
    code += "class Config(LlamaConfig):\n    model_type = 'own'\n"
    code += "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    (folder / "modeling_own.py").write_text(code)
    classes = {"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    change(folder / "config.json", auto_map=classes)
    if not known:
        change(folder / "config.json", model_type="own", architectures=["Model"])


def test_code_of_a_model_is_not_run(folder: Path, marker: Path) -> None:
    own_code(folder, marker, known=False)
    told = refused(folder)
    assert "--trust-remote-code" in told
    assert "code" in told
    assert not marker.exists()


def test_code_beside_a_known_model_is_not_run(folder: Path, marker: Path) -> None:
    own_code(folder, marker, known=True)
    model, _ = load(str(folder), device="cpu")
    assert type(model).__module__.startswith("transformers.")
    assert not marker.exists()


def test_code_of_a_tokenizer_is_not_run(folder: Path, marker: Path) -> None:
    (folder / "tokenization_own.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Own",
        auto_map={"AutoTokenizer": [None, "tokenization_own.Own"]},
    )
    with suppress(ModelError):  # or it is loaded as the class it is derived from
        load(str(folder), device="cpu")
    assert not marker.exists()


def test_with_trust_it_is_run_and_that_is_said_loudly(folder: Path, marker: Path) -> None:
    own_code(folder, marker, known=False)
    told = said(invoke("ask", folder, "Is it?", "--device", "cpu", "--trust-remote-code"))
    assert marker.exists()
    assert "--trust-remote-code" in told
    assert "runs code" in told


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_not_read(folder: Path, marker: Path, name: str) -> None:
    torch.save(Malicious(marker), folder / name)
    load(str(folder), device="cpu")  # beside the weights it is no matter
    (folder / "model.safetensors").unlink()
    told = refused(folder)
    assert "safetensors" in told
    assert name in told
    assert "save_pretrained" in told
    assert not marker.exists()


def test_the_pickle_is_malicious(marker: Path, tmp_path: Path) -> None:
    torch.save(Malicious(marker), tmp_path / "x.bin")
    torch.load(tmp_path / "x.bin", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../evil.bin", "../other.safetensors"])
def test_an_index_that_names_a_pickle_or_another_folder(
    folder: Path, marker: Path, shard: str
) -> None:
    torch.save(Malicious(marker), folder / shard)
    weights = {"model.embed_tokens.weight": shard}
    index = {"metadata": {"total_size": 1}, "weight_map": weights}
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    told = refused(folder)
    assert shard in told
    assert not marker.exists()


def test_an_adapter_in_the_folder_is_not_read(folder: Path, marker: Path) -> None:
    torch.save(Malicious(marker), folder / "adapter_model.bin")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 1}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    told = refused(folder)
    assert "adapter_config.json" in told
    assert not marker.exists()


def test_a_pickled_adapter_is_not_read(saved: Path, marker: Path, tmp_path: Path) -> None:
    torch.save(Malicious(marker), tmp_path / "adapter_model.bin")
    model, _ = load(str(saved), device="cpu")
    with pytest.raises(ModelError, match="safetensors"):
        load_adapter(tmp_path, model)
    assert not marker.exists()


TEMPLATES = {
    "an escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an escape by attr": "{{ (''|attr('__class__')).__mro__ }}",
    "an escape by format": "{{ '{0.__class__}'.format(messages) }}",
    "a global": "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}",
    "an import": "{% import 'os' as os %}",
    "a long range": "{% for i in range(10**9) %}x{% endfor %}",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "a division": "{{ 1 / 0 }}",
    "no end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "huge": "{{ 'x' * 9000000 }}{{ messages[0].content }}",
    "not a template": "{% if %}",
    "nothing": "",
    "without the message": "{{ bos_token }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_hostile_chat_template(name: str, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "SECONDS", 0.5)
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = TEMPLATES[name].replace("MARKER", str(marker))
    example = BinaryExample("Is it?", True)
    with pytest.raises(PromptError) as caught:
        PromptBuilder(tokenizer).binary(example)
    assert "chat" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not marker.exists()
    assert "Is it?" in PromptBuilder(tokenizer, chat=False).binary(example).text


def test_a_jinja2_with_known_escapes_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers refuses it, by an ImportError; what nasalign asks for is not refused."""
    monkeypatch.setattr(jinja2, "__version__", "3.1.5")
    request = {
        "template": "{{ messages[0].content }}{# compiled here for the first time #}",
        "messages": [{"role": "user", "content": "Is it?"}],
        "answering": True,
        "variables": {},
        "longest": 100,
    }
    told = template_worker.reply_to(request)["error"]  # ``render`` makes a sentence of it
    assert "pip install -U jinja2" in told
    assert "\n" not in told
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    named = [Requirement(one) for one in tomllib.loads(project)["project"]["dependencies"]]
    [jinja] = [one.specifier for one in named if one.name == "jinja2"]
    assert not jinja.contains("3.1.5")
    assert jinja.contains("3.1.6")
