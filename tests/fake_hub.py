"""A Hugging Face hub on loopback that takes and gives files, or refuses to, as it is told."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import send, serve


class FakeHub:
    """What the hub holds, and what it refuses.

    Attributes:
        files: what was uploaded, or is there to be fetched, by repository and path.
        private: whether each repository that is there is private.
        refuses: status and message by a part of the path that is asked.
        gated: the status with which files of a repository are held back, by repository.
        asked: method and path of every request.
        tokens: that which was sent, by path.
        url: its address.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.refuses: dict[str, tuple[int, str]] = {}
        self.gated: dict[str, int] = {}
        self.asked: list[str] = []
        self.tokens: dict[str, str | None] = {}
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Returns status and JSON of a request."""
        for part, (status, message) in self.refuses.items():
            if part in path:
                return status, {"error": message}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "ann", "orgs": []}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        repo = "/".join(path.split("/")[3:5])
        if "/tree/" in path:  # of a folder of more chat templates
            return 200, []
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [
                {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
            ]
            return 200, {"files": modes}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.files.setdefault(repo, {})[line["value"]["path"]] = content
            url = f"{self.url}/{repo}/commit/0"
            return 200, {"commitUrl": url, "commitOid": "0" * 40, "success": True}
        if method == "GET" and repo in self.private:
            return 200, {"id": repo, "private": self.private[repo], "siblings": [], "tags": []}
        return 404, {"error": "not here"}

    def file(self, path: str) -> bytes | None:
        """Returns the content of a file by the path of its address, if there is one."""
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        return self.files.get(repo, {}).get(rest.partition("/")[2])

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        repo = f"{asked.get('organization') or 'ann'}/{asked['name']}"
        url = f"{self.url}/{repo}"
        if repo in self.private:
            return 409, {"error": "You already created this model repo", "url": url}
        private = asked.get("private") or asked.get("visibility") == "private"
        self.private[repo] = bool(private)
        return 200, {"url": url, "name": repo, "id": repo}


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Serves a hub on a free port until the context ends."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            hub.asked.append(f"{self.command} {self.path}")
            hub.tokens[self.path] = self.headers.get("Authorization")
            content = hub.file(self.path)
            status = 200
            if content is None:
                status, value = hub.answer(self.command, self.path, body)
                content = json.dumps(value).encode()
            more = {"Content_Type": "application/json"}
            repo = self.path.lstrip("/").partition("/resolve/")[0]
            if repo in hub.gated:
                status, content = hub.gated[repo], b'{"error": "restricted"}'
                more["X_Error_Code"] = "GatedRepo"
            elif "/resolve/" in self.path:
                digest = hashlib.sha256(content).hexdigest()
                more |= {"X_Repo_Commit": "0" * 40, "ETag": f'"{digest}"'}
                more |= {"X_Error_Code": "EntryNotFound"} if status == 404 else {}
            send(self, status, content, **more)

        do_GET = do_POST = do_HEAD = _do  # noqa: N815

    with serve(Handler) as hub.url:
        yield hub
