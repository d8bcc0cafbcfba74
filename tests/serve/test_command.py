"""The command: where the page is, what is said when it cannot be, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from nasalign.commands import app
from nasalign.serve.server import _address, listen
from tiny_pair import make_pair

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("command"))


def serve(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["serve", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result.exit_code, " ".join((result.stdout + result.stderr).split())


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process alone")
def test_control_c_ends_it_cleanly(folders: tuple[Path, Path]) -> None:
    model, adapter = map(str, folders)
    command = [sys.executable, "-P", "-m", "nasalign", "serve", model, "--adapter", adapter]
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        url = None
        while url is None and (line := process.stdout.readline()):
            url = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert url is not None
        asked = httpx.post(
            f"{url[0]}api/ask", json={"question": "Is it?"}, timeout=60, trust_env=False
        )
        assert list(asked.json()["sides"]) == ["untouched", "aligned"]
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert said.strip() == "Stopped; the model's files are untouched."


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = serve("no-such-model", "--port", port)  # said before the model is looked for
    assert code == 2
    assert said == f"Port {port} of 127.0.0.1 is taken; give another one with --port, or 0 for any."


def test_an_address_of_another_machine_is_one_sentence() -> None:
    code, said = serve("no-such-model", "--host", "192.0.2.1", "--port", 0)
    assert code == 2
    assert said.startswith("Cannot listen at 192.0.2.1, port 0: ")


def test_a_model_that_is_not_there_frees_the_port() -> None:
    code, said = serve("no-such-model", "--port", 0)
    assert code == 2
    assert "no-such-model" in said


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_address_with_colons_stands_in_brackets() -> None:
    with listen("::1", 0) as listener:
        assert _address(listener, "::1") == f"http://[::1]:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("name", ["fastapi", "uvicorn"])
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    code, said = serve("no-such-model")
    assert code == 2
    assert said == f'The web page needs {name}: pip install "nasalign[serve]".'


@pytest.mark.parametrize(
    ("host", "warned", "address"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:"),
        ("localhost", False, "http://localhost:"),
        ("0.0.0.0", True, f"http://{socket.gethostname()}:"),
        ("", True, f"http://{socket.gethostname()}:"),
    ],
)
def test_other_machines_are_warned_about(
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    warned: bool,
    address: str,
) -> None:
    def interrupted(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", interrupted)
    code, said = serve(folders[0], "--host", host, "--port", 0)
    assert code == 0
    assert ("there is no password" in said) == warned
    assert f"The page is at {address}" in said
