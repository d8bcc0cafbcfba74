"""SHA-256 of texts, bytes and files."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256(parts: Iterable[bytes | str | Path]) -> str:
    """Return the SHA-256 of bytes, texts and files one after the other, as 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def content_source(text: str) -> str:
    """Return how a Content-Security-Policy names an inline script or style of this text."""
    return f"'sha256-{base64.b64encode(bytes.fromhex(sha256([text]))).decode()}'"
