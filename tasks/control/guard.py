"""Who may talk to the control page: only this machine, only by its own name, and with a token where state changes.

Loopback alone is no protection: a web page in the same browser can send requests to it, and by DNS rebinding even read
the answers. A request under any other host name is therefore refused, and whatever changes state needs a header that no
foreign page can set.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from tasks.errors import ConfigurationError

TOKEN_HEADER = "X-Klinehouse-Token"  # noqa: S105  # the header's name
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

#: Sent with every answer: nothing from elsewhere is loaded, nobody frames the page, nothing is cached.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Decides on a request by its headers.

    Args:
        port: Where the page is served.
        token: What a state-changing request must carry.
        host: The address it is served on; anything but loopback is refused.
    """

    def __init__(self, port: int, token: SecretStr, host: str = "127.0.0.1") -> None:
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise ConfigurationError(f"control page: expected a loopback address, found {host!r}; use a tunnel instead")
        self._hosts = {f"{name}:{port}" for name in LOOPBACK} | ({*LOOPBACK} if port == 80 else set())
        self._token = token

    def knows_host(self, host: str | None) -> bool:
        """Say whether the Host header names this machine's own loopback."""
        return host is not None and host.lower() in self._hosts

    def allows_change(self, headers: Mapping[str, str]) -> bool:
        """Say whether a request may change state: the right token, and no foreign origin."""
        origin = headers.get("Origin")
        if origin is not None and origin.removeprefix("http://").lower() not in self._hosts:
            return False
        given = headers.get(TOKEN_HEADER, "")
        return hmac.compare_digest(given.encode(errors="replace"), self._token.get_secret_value().encode())


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Say whether a browser sent a request for a page of another origin; whoever is no browser does not say."""
    return headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")


def make_token(path: Path) -> SecretStr:
    """Write a fresh token to a file that only its owner can read, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    token = secrets.token_urlsafe(24)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(token)
    return SecretStr(token)
