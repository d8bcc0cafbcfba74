"""The command: where the page is, and what is said when it cannot be served."""

import socket
import sys
from pathlib import Path

import pytest
import uvicorn

from fault_tools import done, invoke, refused, said
from nasalign.serve.addresses import listen, page_address


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # said before the model is looked for
        sentence = refused(invoke("serve", "owner/no-such-model", "--port", port))
    assert (
        sentence
        == f"Port {port} of 127.0.0.1 is taken; give another one with --port, or 0 for any."
    )


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        ("owner/no-such-model", ("--host", "192.0.2.1"), "Cannot listen at 192.0.2.1, port 0: "),
        ("no-such-model", (), "There is no model 'no-such-model'"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    model: str, options: tuple[str, ...], sentence: str
) -> None:
    assert refused(invoke("serve", model, *options, "--port", 0)).startswith(sentence)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_address_with_colons_stands_in_brackets() -> None:
    with listen("::1", 0) as listener:
        assert page_address(listener, "::1") == f"http://[::1]:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("name", ["fastapi", "uvicorn"])
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    sentence = refused(invoke("serve", "owner/no-such-model"))
    assert sentence == f'The web page needs {name}: pip install "nasalign[serve]".'


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
    told = said(done("serve", folders[0], "--host", host, "--port", 0))
    assert ("there is no password" in told) == warned
    assert f"The page is at {address}" in told
