"""An export is uploaded with its card, or a sentence says why not and where it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from click.testing import Result
from huggingface_hub import constants

import fake_hub
from aligned import aligned
from fault_tools import invoke, refused

TOKEN = "hf_of_ann"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """A hub on loopback, to which the user is logged in."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    with fake_hub.serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        yield served
    huggingface_hub.close_session()


def export(tmp_path: Path, *arguments: str) -> Result:
    run = tmp_path / "run"
    if not run.exists():
        aligned(tmp_path)
    result = invoke("export", run, tmp_path / "out", *arguments)
    assert TOKEN not in result.output
    return result


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_the_whole_folder_is_uploaded(form: str, hub: fake_hub.FakeHub, tmp_path: Path) -> None:
    done = export(tmp_path, "--push", "ann/fixed", "--private", "--format", form, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pushed"] == f"{hub.url}/ann/fixed"
    there = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert hub.files == {"ann/fixed": there}
    assert "README.md" in there
    assert hub.private == {"ann/fixed": True}
    assert hub.tokens["/api/models/ann/fixed/commit/main"] == f"Bearer {TOKEN}"
    assert TOKEN.encode() not in b"".join(there.values())


def test_a_gguf_file_is_uploaded_with_its_card(
    hub: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys\nfrom pathlib import Path\nPath(sys.argv[3]).write_bytes(b'GGUF')\n"
    (tmp_path / "convert_hf_to_gguf.py").write_text(script)
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    done = export(tmp_path, "--push", "fixed", "--format", "gguf")
    assert done.exit_code == 0, done.output
    card = (tmp_path / "out.md").read_bytes()
    assert hub.files == {"ann/fixed": {"out.gguf": b"GGUF", "README.md": card}}
    assert f"Uploaded to {hub.url}/ann/fixed" in done.output
    assert hub.private == {"ann/fixed": False}


def test_a_repository_that_is_there_is_added_to(hub: fake_hub.FakeHub, tmp_path: Path) -> None:
    hub.private["ann/fixed"] = True
    done = export(tmp_path, "--push", "ann/fixed", "--private", "--format", "adapter")
    assert done.exit_code == 0, done.output
    assert "adapter_model.safetensors" in hub.files["ann/fixed"]


def test_what_shall_be_private_is_not_put_where_all_can_see_it(
    hub: fake_hub.FakeHub, tmp_path: Path
) -> None:
    hub.private["ann/fixed"] = False
    said = refused(export(tmp_path, "--push", "ann/fixed", "--private", "--format", "adapter"))
    assert "ann/fixed is there already and public, so nothing was uploaded" in said
    assert hub.files == {}
    assert f"hf upload ann/fixed {tmp_path / 'out'}" in said
    assert (tmp_path / "out" / "README.md").exists()


@pytest.mark.parametrize("repo", ["a/b/c", "ann/..", "", "ann/what is this"])
def test_what_is_no_id_is_refused_before_anything_is_written(
    repo: str, hub: fake_hub.FakeHub, tmp_path: Path
) -> None:
    said = refused(export(tmp_path, "--push", repo))
    assert "is no id of a repository; write owner/name" in said
    assert not (tmp_path / "out").exists()
    assert hub.asked == []


def test_what_the_hub_would_not_take_is_refused_before_anything_is_written(
    hub: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lambda: refused(export(tmp_path, "--push", "ann/fixed"))  # noqa: E731
    hub.refuses["whoami"] = (401, "Invalid credentials")
    assert "does not know your token" in said()
    monkeypatch.delenv("HF_TOKEN")
    assert "no token for the Hugging Face hub; log in by `hf auth login` or set HF_TOKEN" in said()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "The Hugging Face hub cannot be reached" in said()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE keeps the hub out" in said()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["repos/create", "/commit/"])
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "does not let your token write to bob/fixed"),
        (400, "refused bob/fixed with status 400"),
    ],
)
def test_a_repository_that_is_refused_leaves_the_export_where_it_is(
    place: str, status: int, said: str, hub: fake_hub.FakeHub, tmp_path: Path
) -> None:
    hub.refuses[place] = (status, "because of this")
    sentence = refused(export(tmp_path, "--push", "bob/fixed", "--format", "adapter"))
    assert said in sentence
    assert "because of this" in sentence
    assert f"It is in {tmp_path / 'out'}" in sentence
    assert (tmp_path / "out" / "README.md").exists()
