"""What `doctor` finds, what stops it, and that it shows no secret."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nasalign import extras
from nasalign.commands import app, doctor
from nasalign.commands.doctor import Finding, examine, usable

RUNNER = CliRunner()


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_here_all_is_well() -> None:
    result = RUNNER.invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["usable"]
    names = {finding["name"] for finding in found["findings"]}
    assert {"nasalign", "python", "torch", "cpu", "cache", "runs", "connection"} <= names
    assert set(extras.EXTRAS) <= names


def test_it_reads_as_a_table() -> None:
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert result.stdout.strip().endswith("Ready.")


@pytest.mark.parametrize(
    ("asked", "says"),
    [("no-such-thing>=2", 'missing: pip install "no-such-thing>=2"'), ("rich<1", "<1 is needed")],
)
def test_a_package_that_is_not_there_or_too_old_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, asked: str, says: str
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: [asked])
    found = named(examine(), asked.split(">")[0].split("<")[0])
    assert found.state == "problem"
    assert says in found.says
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "To be mended first" in result.stdout


def test_a_torch_that_does_not_load_is_told_and_the_rest_is_examined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.12: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor, "import_module", broken)
    findings = examine()
    assert not usable(findings)
    assert any(one.says == "libcudart.so.12: cannot open shared object file" for one in findings)
    assert named(findings, "runs").state == "good"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "file" / "cache"))
    found = named(examine(), "cache")
    assert found.state == "problem"
    assert "NASALIGN_CACHE" in found.says


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:SECRET@localhost/v1")
    findings = examine()
    assert "SECRET" not in repr(findings)
    assert named(findings, "token").says == "there"
    assert "OPENAI_API_KEY" in named(findings, "endpoint").says


def test_an_extra_that_is_missing_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    findings = examine()
    assert usable(findings)
    assert named(findings, "judge").says.endswith('pip install "nasalign[judge]".')
