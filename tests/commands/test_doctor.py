"""What `doctor` finds, what stops it, and that it shows no secret."""

import json
from pathlib import Path

import pytest

from fault_tools import done, invoke, refused
from nasalign import extras
from nasalign.commands import doctor
from nasalign.commands.doctor import Finding, examine


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_here_all_is_well() -> None:
    found = json.loads(done("doctor", "--json").stdout)
    assert found["usable"]
    names = {finding["name"] for finding in found["findings"]}
    assert {"nasalign", "python", "torch", "cpu", "cache", "runs", "connection"} <= names
    assert set(extras.EXTRAS) <= names
    assert done("doctor").stdout.strip().endswith("Ready.")


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [("no-such-thing", ">=2", 'missing: pip install "no-such-thing>=2"'), ("rich", "<1", "rich<1")],
)
def test_a_package_that_is_not_there_or_too_old_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, name: str, asked: str, says: str
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda package: [name + asked])
    found = named(examine(), name)
    assert found.state == "problem"
    assert says in found.says
    assert f"To be mended first: {name}." in refused(invoke("doctor"), code=1)


def test_a_torch_that_does_not_load_is_told_and_the_rest_is_examined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.12: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor, "import_module", broken)
    findings = examine()
    problem = named(findings, "broken")
    assert problem.state == "problem"
    assert problem.says == "libcudart.so.12: cannot open shared object file"
    assert named(findings, "runs").state == "good"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "file" / "cache"))
    found = named(examine(), "cache")
    assert found.state == "problem"
    assert "NASALIGN_CACHE" in found.says


def test_no_secret_is_shown_and_an_extra_that_is_missing_is_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:SECRET@localhost/v1")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    findings = examine()
    assert "SECRET" not in repr(findings)
    assert named(findings, "token").says == "there"
    assert "OPENAI_API_KEY" in named(findings, "endpoint").says
    judge = named(findings, "judge")
    assert judge.state == "note"
    assert judge.says.endswith('pip install "nasalign[judge]".')
