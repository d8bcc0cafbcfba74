"""How an endpoint is reached: its URL, its key, and how both are kept out of messages."""

import base64
import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from nasalign.errors import EndpointError

_SECRETS = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHORTEST = 4  # a shorter secret would hide parts of ordinary words


@dataclass(frozen=True)
class Access:
    """What a client needs from the environment."""

    key: str | None = field(repr=False)  # None if one is needed and none is set
    url: str | None  # without user, password and query, which errors would show; None: OpenAI's
    headers: dict[str, str] = field(repr=False)  # carry user and password instead
    query: dict[str, str] = field(repr=False)  # the parameters of each request
    secrets: tuple[str, ...] = field(repr=False)  # texts that no message may hold
    exposed: str = ""  # the host to which a key goes over plain http, if it is another machine

    @classmethod
    def from_environment(cls) -> "Access":
        """Return the access that the environment describes, or raise EndpointError."""
        found = [os.environ.get(name, "") for name in _SECRETS]
        given = os.environ.get("OPENAI_BASE_URL")
        # Most local servers ask for no key, but the client insists on one.
        key = os.environ.get("OPENAI_API_KEY") or ("none" if given else None)
        if not given:
            return cls(key, None, {}, {}, tuple(found))
        try:
            parts = urlsplit(given)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port  # raises if it is no number
        except ValueError:
            valid = False
        if not valid:
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
        clear = secret and parts.scheme == "http" and not is_loopback(parts.hostname)
        url = urlunsplit(parts._replace(netloc=host, query="", fragment=""))
        return cls(key, url, headers, query, tuple(found), host if clear else "")

    def safe(self, text: str) -> str:
        """Return a text without the secrets, which an endpoint may repeat in its errors."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST and secret != "none":
                text = text.replace(secret, "***")
        return text


def is_loopback(host: str | None) -> bool:
    """Whether a host can be reached from this machine alone."""
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
