"""The chat templates of transformers, trl and axolotl: each gives a prompt that ends rightly.

They are read from the installed package and, for the other two, from their wheels of the package
index; none is part of this repository.
"""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import transformers

import tiny
from nasalign.data.records import BinaryExample
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.chat_template import ChatTemplate

OPENED = re.compile(r"<(think|reason|thought)[^>]*>\s*\Z")


def check(name: str, text: str) -> None:
    """Ask by a template, in a user's message alone and below a system message."""
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = text
    chat = ChatTemplate(tokenizer, "2026-01-31")
    turns = [("user", "Is ice cold?")]
    prompt, answered = chat.prompt(turns), chat.answered(turns, "Quite")
    assert prompt.count("Is ice cold?") == 1, name
    assert answered.startswith(f"{prompt}{chat.space or ''}Quite"), name
    assert not OPENED.search(prompt), name
    asked = PromptBuilder(tokenizer, today="2026-01-31").binary(BinaryExample("Is it?", True))
    for word, position in (("Yes", asked.positive_position), ("No", asked.negative_position)):
        assert tokenizer.decode([asked.token_ids[position]]).strip() == word, name
    assert tokenizer.decode([asked.answers.target]).strip() == "Yes", name
    if chat.takes_system:
        with_system = chat.prompt([("system", "Be strict."), *turns])
        assert with_system.index("Be strict.") < with_system.index("Is ice cold?"), name


def test_templates_in_the_sources_of_transformers() -> None:
    root = Path(transformers.__file__).parent / "models"
    found = {
        f"{path.name}:{node.lineno}": node.value
        for kind in ("processing", "tokenization", "convert")
        for path in sorted(root.glob(f"*/{kind}_*.py"))
        if "{%" in (source := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if "{%" in node.value and "messages" in node.value
    }
    assert len(found) >= 3
    for name, text in found.items():
        check(name, text)


@pytest.mark.parametrize(
    ("package", "least"),
    [
        pytest.param("axolotl", 30, marks=pytest.mark.long),
        pytest.param("trl", 60, marks=pytest.mark.long),
    ],
)
def test_templates_in_a_wheel(tmp_path: Path, package: str, least: int) -> None:
    pip = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", package]
    try:
        subprocess.run(pip, check=True, capture_output=True, timeout=120, cwd=tmp_path)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"{package} cannot be had from the package index: {error}")
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        names = [name for name in files.namelist() if name.endswith(".jinja")]
        texts = {files.read(name).decode() for name in names}
    assert len(names) >= least
    for text in sorted(texts):
        check(f"{package}: {text[:60]}", text)
