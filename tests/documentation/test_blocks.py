"""Every block of code in the documentation is run, or says why not and has its options checked.

Commands run in one process, in a folder of the page's own, against a tiny model that knows its own
answers. What stands for what is in `WORDS`, `CODE` and `arguments`; nothing else is changed.
"""

import json
import re
import shutil
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cases
import nasalign
import upstream
from cases import DENIES, case
from nasalign.commands import app
from nasalign.commands.app import load_command
from pages import PAGES, ROOT, Block, blocks

QUICK = ("epochs=1", "n=2", "k=8", "learning_rate=1e-3", "bootstrap_samples=20")
QUICK += ("answer_tokens=6", "side_effect_questions=2", "joint_epochs=1", "known_pairs=8")
QUICK += ("reasoning_tokens=8", "evaluation_questions=12", "probing_questions=40")
LANGUAGES = {"sh", "python", "json", "toml", "text", "console", "bibtex", "yaml", ""}
PLAIN = ("make", "python", "pip", "accelerate", "source", "export")  # commands that are not ours
NAMED = ("hotpotqa", "strategyqa", "musique", "gsm8k", "math", "ar-lsat")
NAMED += ("gsm8k-rephrased", "math-rephrased")
# Blocks of commands that are not run, by page: a further one has to be written down here.
NOT_RUN = {
    "README.md": 2,
    "CONTRIBUTING.md": 1,
    "compare.md": 1,
    "exporting.md": 3,
    "nasa-plus.md": 1,
    "own-data.md": 1,
    "own-model.md": 3,
    "recipes.md": 4,
    "reproduce.md": 2,
    "serving.md": 3,
    "start.md": 4,
    "study.md": 1,
}


@dataclass(frozen=True)
class World:
    """A tiny model, and the data that stand for those of the documentation."""

    folder: Path

    @property
    def words(self) -> dict[str, str]:
        """What stands for the words of a command."""
        names = {"MODEL": "model", "smollm2-135m": "model", "OTHER": "other", "DATA": "data"}
        return {word: str(self.folder / name) for word, name in names.items()}

    @property
    def code(self) -> dict[str, str]:
        """What stands for parts of Python code."""
        return {
            '"smollm2-135m"': repr(self.words["MODEL"]),
            'nasalign.load_facts("probing"))': "own_questions(), small)",
            'nasalign.load_facts("probing")': "own_questions()",
            'nasalign.load_preset("fast")': "small",
        }

    def own_questions(self) -> list[nasalign.Question]:
        """Questions whose answers the tiny model knows."""
        return [nasalign.Question(**row) for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        return list(map(json.loads, (self.folder / "questions.jsonl").read_text().splitlines()))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("documentation")
    model, _ = case(folder, DENIES, 40)
    result = World(folder)
    judged(folder / "claims.csv", "claim;context;label;page", "yes", "no")
    judged(folder / "urteile.csv", "aussage;beleg;urteil;quelle", "ja", "nein")
    shutil.copytree(model, folder / "other")
    sets, data = folder / "sets", folder / "data"
    sets.mkdir()
    for name in NAMED:
        upstream.write(sets, name)
    rows = [row | {"type": "bridge"} for row in result.rows()]
    (sets / "hotpotqa.json").write_text(json.dumps(rows))
    shutil.copytree(sets, data, ignore=shutil.ignore_patterns("*-rephrased.*"))
    invoke(["align", "MODEL", "--out", str(folder / "mine")], result)
    return result


def judged(path: Path, header: str, *verdicts: str) -> None:
    """Writes claims with evidence, verdicts and sources, as a user has them."""
    rows = [
        f"word{row} is in row {row};Row {row} has word{row + odd}.;{verdicts[odd]};{row // 4}"
        for row in range(240)
        for odd in [row % 2]
    ]
    path.write_text("\n".join([header, *rows]))


def arguments(words: list[str], world: World) -> list[str]:
    """The command as it is run: with the words replaced, and small by settings and data."""
    command, *rest = [world.words.get(word, word) for word in words]
    if command not in ("doctor", "export", "report"):
        rest = cases.sets(QUICK) + rest  # the page's own win
    if "--template" in rest:  # a tiny model has a lean of its own in each prompt
        rest = cases.sets(["direction=auto", "kl_weight=0", "joint_learning_rate=1e-2"]) + rest
    if command in ("align", "diagnose", "compare", "evaluate") and "--data" not in rest:
        rest += ["--data", str(world.folder / "questions.jsonl")]
    for name in NAMED:
        if name in rest and "--source" not in words and command != "reproduce":
            [path] = (world.folder / "sets").glob(f"{name}.json*")
            rest += ["--source", f"{name}={path}"]
    return [command, *rest]


def invoke(words: list[str], world: World) -> str:
    """Runs a command and returns what it printed."""
    if "--resume" not in words:
        for place in targets(words):
            shutil.rmtree(place, ignore_errors=True)
            if place.is_file():
                place.unlink()
    result = CliRunner().invoke(app, arguments(words, world))
    assert result.exit_code == 0, f"nasalign {' '.join(words)}\n{result.output}"
    return result.output


def targets(words: list[str]) -> list[Path]:
    """What a command writes, and so must not be there when it begins."""
    named = [Path(words[words.index("--out") + 1])] if "--out" in words else []
    if words[0] == "export":
        named.append(Path(words[2]))
    return [*named, Path("runs/model"), Path("runs/model-compare")]


def is_run(block: Block) -> bool:
    """Whether a block is of our commands alone, and has no reason not to be run."""
    ours = all(words[0] == "nasalign" for words in block.commands)
    return not block.reason and (block.language == "python" or ours)


CODE = [block for page in PAGES for block in blocks(page) if block.language in ("sh", "python")]
LONG = ("own-data.md", "compare.md", "own-model.md")
RUN = {page.name: [one for one in CODE if one.page == page.name and is_run(one)] for page in PAGES}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.long] if page.name in LONG else [], id=page.name)
        for page in PAGES
        if RUN[page.name]
    ],
)
def test_the_blocks_of_a_page_run_in_their_order(
    page: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.print", lambda *what, **how: None)
    shutil.copytree(world.folder / "mine", "runs/mine")
    for name in ("questions.jsonl", "claims.csv", "urteile.csv"):
        shutil.copy(world.folder / name, tmp_path)
    shutil.copy(world.folder / "data" / "gsm8k.jsonl", "gsm8k_test.jsonl")
    small = {"k": 8, "n": 2, "epochs": 1, "learning_rate": 1e-3}
    base = nasalign.load(world.words["MODEL"])[0]
    names: dict[str, Any] = {"own_questions": world.own_questions, "base_model": base}
    names["small"] = nasalign.load_preset().replace(small)
    done = 0
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.body)
        if block not in RUN[page.name]:
            continue
        if block.language == "python":
            code = block.body
            for part, stand_in in world.code.items():
                code = code.replace(part, stand_in)
            exec(compile(code, f"{page.name}", "exec"), names)
        else:
            for words in block.commands:
                invoke(words[1:], world)
        done += 1
    assert done == len(RUN[page.name])


def test_nothing_is_left_out_but_what_is_written_down() -> None:
    found = {block.language for page in PAGES for block in blocks(page)}
    assert found <= LANGUAGES
    left_out = [block for block in CODE if not is_run(block)]
    assert dict(Counter(block.page for block in left_out)) == NOT_RUN
    assert sum(map(len, RUN.values())) == len(CODE) - len(left_out) > 30


def test_commands_that_are_not_run_have_options_that_exist() -> None:
    checked = 0
    for block in CODE:
        if is_run(block) or block.language != "sh":
            continue
        for words in block.commands:
            if words[0] in PLAIN and "nasalign" not in words:
                exists(words)
                continue
            name, *rest = words[words.index("nasalign") + 1 :]
            load_command(name).make_context(name, rest)  # raises for an option that is unknown
            checked += 1
    assert checked >= 5


def exists(words: list[str]) -> None:
    """Checks what another program is told: a target, a script, an extra."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
    elif words[0] == "python":
        assert (ROOT / words[1]).exists(), words
    elif words[0] == "export":
        assert words[1].startswith(("OPENAI_", "NASALIGN_", "HF_")), words
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for extra in re.findall(r"nasalign\[(.+)\]", " ".join(words)):
            assert extra in extras["optional-dependencies"], words
    else:
        raise AssertionError(f"nothing is known of {words}")
