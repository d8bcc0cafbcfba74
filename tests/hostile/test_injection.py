"""What data, models and names hold stays data in a page, a table, a card and a path."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_folder
from fault_tools import done, invoke, refused
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.errors import NasAlignError
from nasalign.io.files import write_json, write_jsonl
from nasalign.reporting.card import Form, model_card
from nasalign.reporting.comparison_table import as_csv
from nasalign.reporting.report import write_report
from nasalign.reproduction.document import write_result
from nasalign.reproduction.result import Result
from tiny_pair import make_pair

HTML = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<!--<script>",
    "]]></svg><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\u2028</textarea><style>*{display:none}</style>",
    "datum.x = toString.constructor('alert(1)')()",
)
FORMULAS = (
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\ufeff=1",
)  # fmt: skip
MARKDOWN = (
    "x\n---\nlicense: evil\n---\n# Owned",
    "[click](javascript:alert(1))",
    "![x](http://e/x.png)",
    "<script>alert(1)</script>",
    "| a | b |\n|---|---|",
    "```\n# heading",
    "'''\nimport os #",
    "x: &a [*a]",
    "!!python/object/apply:os.system ['touch /tmp/x']",
    "a\u2028b\u0085# c",
)


class Tags(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))


def names_of(page: str) -> tuple[list[str], list[str]]:
    """The tags that could do something, and the attributes that could."""
    parser = Tags()
    parser.feed(page)
    risky = {"script", "img", "iframe", "object", "embed", "link", "form", "style", "meta", "base"}
    names = [name for _, attributes in parser.tags for name, _ in attributes]
    return [tag for tag, _ in parser.tags if tag in risky], [
        one for one in names if one[:2] == "on"
    ]


def hostile_run(folder: Path, text: str) -> Path:
    """A run in which every text that comes from outside is this one."""
    run = run_folder.make_run(folder / "run", more=True)
    run_folder.write_attention(run)
    for path in (run / "eval").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row |= {"question": f"{row['question']} {text}", "id": text, "generated": text}
            row["answer"] = f"{row['answer']} {text}"
        write_jsonl(path, rows)
    facts = json.loads((run / "run.json").read_text())
    facts["model"] |= {"source": text, "name": text, "architecture": text, "device": text}
    facts |= {"data_origin": text, "probing_origin": text, "further": [text]}
    facts["dropped"] = {text: {text: 1}}
    facts["special_tokens"] = {"bos_token": text}
    facts["endpoints"] = {text: {text: text}}
    facts["examples"][text] = {text: text}
    facts["settings"] |= {"data_revision": text}  # others are refused unless they are allowed
    write_json(run / "run.json", facts)
    attention = json.loads((run / "attention.json").read_text())
    for example in attention["examples"]:
        example["question"] = text
        example["tokens"][8] = text
    write_json(run / "attention.json", attention)
    return run


@pytest.fixture(scope="module")
def harmless_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    run = hostile_run(tmp_path_factory.mktemp("harmless"), "harmless")
    return names_of(write_report(run).read_text())


def test_the_report_has_no_tag_of_the_data(
    tmp_path: Path, harmless_page: tuple[list[str], list[str]]
) -> None:
    page = write_report(hostile_run(tmp_path, " ".join(HTML))).read_text()
    assert names_of(page) == harmless_page
    assert not re.search(r"<script>alert|onload=alert\(1\)>|<img src=x", page)
    for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S):
        json.loads(found)


def comparison(text: str) -> dict[str, Any]:
    row = {
        "name": text, "title": text, "error": text, "datasets": {}, "serving": text, "logits": True,
        "chosen": {text: text},
    }  # fmt: skip
    about = {"n": 1, "questions": 1, "positives": 0.5}
    return {"datasets": {text: about}, "rows": [row]}


def cells(text: str) -> list[str]:
    return [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(text: str, tmp_path: Path) -> None:
    found = cells(as_csv(comparison(text)))
    result = Result("table-1", "t", ["source", "model"], ["nas"], [])
    result.rows.append({"source": text, "model": text, "nas": -0.5})
    write_result(tmp_path, result)
    found += cells((tmp_path / "table-1.csv").read_bytes().decode())
    assert any(text.strip("\t\r\n \ufeff") in cell for cell in found)
    for cell in found:
        start = cell.lstrip(" \ufeff")[:1]
        assert start not in ("=", "+", "@", "\t", "\r", "\n") or cell == "-0.5", repr(cell)
        assert not cell.startswith("-") or cell == "-0.5", repr(cell)
    assert "-0.5" in found  # a number stays one


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair(tmp_path_factory.mktemp("adapter"))[1]


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """The metadata of a card, and what stands below."""
    _, front, body = re.split(r"^---$", card, maxsplit=2, flags=re.M)
    return yaml.safe_load(front), body


@pytest.fixture(scope="module")
def plain_cards(tmp_path_factory: pytest.TempPathFactory, adapter: Path) -> dict[Form, str]:
    run = hostile_run(tmp_path_factory.mktemp("plain"), "plain")
    forms: tuple[Form, ...] = ("adapter", "merged")
    return {form: model_card(run, adapter, form, "plain") for form in forms}


CARDS = [(text, "adapter") for text in (*MARKDOWN, *HTML)]
CARDS += [(text, "merged") for text in MARKDOWN[:3]]


@pytest.mark.parametrize(("text", "form"), CARDS)
def test_a_card_says_what_it_says(
    text: str, form: Form, adapter: Path, plain_cards: dict[Form, str], tmp_path: Path
) -> None:
    run = hostile_run(tmp_path, text)
    card = model_card(run, adapter, form, text)
    data, body = split_card(card)
    plain, plain_body = split_card(plain_cards[form])
    assert data["library_name"] == ("peft" if form == "adapter" else "transformers")
    assert data.get("license") is None
    assert set(data) == set(plain)
    headings = re.compile(r"^#+ (?!.*aligned by)", re.M)
    assert len(headings.findall(body)) == len(headings.findall(plain_body))
    outside = re.sub(r"```.*?^```$", "", body, flags=re.S | re.M)
    assert not re.search(r"(?<!\\)<script|(?<!\\)!\[|(?<!\\)\[click\]", outside)
    for code in re.findall(r"^```python\n(.*?)^```$", body, re.S | re.M):
        compile(code, "card", "exec")


@pytest.mark.parametrize("license_", ["x\nmodel-index: []", "mit", ["a", "b"], {"a": "b"}, 3])
def test_a_license_is_one_value(license_: Any, adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text(f"---\n{yaml.safe_dump({'license': license_})}---\n")
    card = model_card(None, adapter, "adapter", str(base))
    data, _ = split_card(card)
    assert data.get("license") in (license_, None)
    assert "model-index" not in data
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    "name", ["../../up", "/absolute/folder/model", "~/model", "..", "a/../../b"]
)
def test_a_card_names_no_folder_of_this_machine(name: str, adapter: Path, tmp_path: Path) -> None:
    run = run_folder.make_run(tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    facts["model"] |= {"source": name, "name": name}
    facts |= {"data": "mine", "data_origin": f"{name}/mine.jsonl", "adapter": f"{name}/x"}
    facts |= {"probing_origin": f"{name}/a.csv, {name}/b.csv", "further": [f"{name}/c.csv"]}
    write_json(run / "run.json", facts)
    card = model_card(run, adapter, "adapter", name)
    assert str(tmp_path) not in card
    assert "/absolute" not in card
    assert ".." not in card.split("## How to reproduce")[0].replace("...", "")


@pytest.mark.parametrize("name", [".", "..", "x/..", "/"])
def test_a_model_s_name_is_no_way_out_of_the_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for command in ("align", "compare"):
        refused(invoke(command, name, "--overwrite"))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_id_is_no_path(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "?", "answer": "yes", "id": "../../../x"}) + "\n")
    out = tmp_path / "deep" / "er" / "out.jsonl"
    done("data", path, "--out", out)
    assert sorted(one for one in tmp_path.rglob("*") if one.is_file()) == [out, path]


def test_an_export_follows_no_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "target").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NasAlignError, match="is there already"):
        export_job(Job(), tmp_path, tmp_path / "target", "merged")
    assert not (tmp_path / "nowhere").exists()
