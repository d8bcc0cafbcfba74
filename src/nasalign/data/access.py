"""How an endpoint is reached: its URL, its key, and how both are kept out of what is said."""

import base64
import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from nasalign.errors import EndpointError

_SECRETS = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHORTEST = 4  # a shorter text would be blotted out where it is none of the secret


@dataclass(frozen=True)
class Access:
    """What a client needs of the environment.

    Attributes:
        key: the key; None where there must be one and is none.
        url: without a user, a password and a query, which errors and logs would show; None for
            OpenAI's.
        headers: that carry user and password instead.
        query: what each request has after its ``?``.
        secrets: what must not be said.
        exposed: the host to which a key goes over plain http, where that is another machine.
    """

    key: str | None = field(repr=False)
    url: str | None
    headers: dict[str, str] = field(repr=False)
    query: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    exposed: str = ""

    @classmethod
    def from_environment(cls) -> "Access":
        """Returns what the environment says.

        Raises:
            EndpointError: the URL is none.
        """
        found = [os.environ.get(name, "") for name in _SECRETS]
        given = os.environ.get("OPENAI_BASE_URL")
        key = os.environ.get("OPENAI_API_KEY") or ("none" if given else None)  # mostly not asked
        if not given:
            return cls(key, None, {}, {}, tuple(found))
        try:
            parts = urlsplit(given)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port  # raises where it is no number
        except ValueError:
            whole = False
        if not whole:
            raise EndpointError("OPENAI_BASE_URL is not a URL; it looks like http://HOST/v1.")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        found += [parts.query, *query.values(), *map(quote, query.values())]
        account, at, host = parts.netloc.rpartition("@")
        headers = {}
        if at:
            user, _, password = account.partition(":")
            basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
            headers = {"Authorization": f"Basic {basic}"}
            found += [password, unquote(password), account, basic]
        secret = at or query or key != "none"
        exposed = host if secret and parts.scheme == "http" and not _is_own(parts.hostname) else ""
        url = urlunsplit(parts._replace(netloc=host, query="", fragment=""))
        return cls(key, url, headers, query, tuple(found), exposed)

    def safe(self, text: str) -> str:
        """Returns a text without the secrets, which an endpoint may repeat."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST and secret != "none":
                text = text.replace(secret, "***")
        return text


def _is_own(host: str | None) -> bool:
    """Says whether a host is this machine."""
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
