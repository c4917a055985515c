"""Who may do what: the token of the line, the cookie that stands for it, and what is open without either."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time

from padim_edge_line.config import ServerConfig

__all__ = ["CHANGE", "COOKIE_SECONDS", "OPEN", "READ", "SUBMIT", "Access", "loopback"]

OPEN, READ, SUBMIT, CHANGE = "open", "read", "submit", "change"
"""Rights that a request may need: none, to read, to post an image, to change the line or a mark."""

COOKIE_SECONDS = 400 * 86_400
"""Seconds that a cookie is good for. Browsers keep none longer, and a wall screen runs for months."""


def loopback(host: str) -> bool:
    """Tell whether only programs on this machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Rights of requests.

    Args:
        token: The line's token.
        config: The server's keys in `line.toml`.
    """

    def __init__(self, token: str, config: ServerConfig) -> None:
        self._token = _digest(token)
        self._key = hmac.digest(token.encode(), b"padim-edge page", "sha256")
        self._open = {OPEN}
        if loopback(config.host):
            self._open |= {READ, SUBMIT}
        elif config.public:
            self._open |= {READ}

    def without_token(self, need: str) -> bool:
        """Tell whether a right is given to everybody."""
        return need in self._open

    def holds(self, token: str) -> bool:
        """Tell whether this is the token, in the same time for every wrong one."""
        return hmac.compare_digest(_digest(token), self._token)

    def cookie(self) -> str:
        """Make the value of a cookie that stands for the token; the token cannot be found from it."""
        until = str(int(time.time()) + COOKIE_SECONDS)
        return f"{until}.{self._signature(until)}"

    def holds_cookie(self, value: str) -> bool:
        """Tell whether a cookie was made by `cookie`, with this token, and is not too old."""
        until, _, signature = value.partition(".")
        if not hmac.compare_digest(_bytes(signature), _bytes(self._signature(until))):
            return False
        return int(until) > time.time()

    def _signature(self, until: str) -> str:
        return hmac.digest(self._key, _bytes(until), "sha256").hex()


def _digest(token: str) -> bytes:
    return hashlib.sha256(_bytes(token)).digest()


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
