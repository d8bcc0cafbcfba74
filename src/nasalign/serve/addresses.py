"""Where the page is served: listening, and the names and addresses of this machine."""

import errno
import ipaddress
import socket

from nasalign.errors import NasAlignError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host as an IP address, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def listens_everywhere(host: str) -> bool:
    """Whether a server at a host can be reached by every address of this machine."""
    address = ip_address(host)
    return host == "" or (address is not None and address.is_unspecified)


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address; clients that connect before the model is loaded wait."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError, UnicodeError) as error:
        code = getattr(error, "errno", None)
        if code == errno.EADDRINUSE:
            why = f"Port {port} of {host} is taken; give another one with --port, or 0 for any."
        elif code == errno.EACCES:
            why = f"Port {port} is for the system; give one above 1023 with --port."
        else:
            why = f"Cannot listen at {host}, port {port}: {error}."
        raise NasAlignError(why) from error


def page_address(listener: socket.socket, host: str) -> str:
    """Return the URL of the page."""
    name = socket.gethostname() if listens_everywhere(host) else host
    port = listener.getsockname()[1]
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
