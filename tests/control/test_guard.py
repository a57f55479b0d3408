"""Only this machine, only by its own name, and only with the token where state changes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.control.guard import Guard, make_token
from tasks.errors import ConfigurationError

GUARD = Guard(8780, SecretStr("right"))


@pytest.mark.parametrize("host", ["127.0.0.1:8780", "localhost:8780", "LOCALHOST:8780", "[::1]:8780"])
def test_own_names_are_known(host: str) -> None:
    """The three names of loopback with our port are ours."""
    assert GUARD.knows_host(host)


@pytest.mark.parametrize(
    "host", [None, "", "evil.example:8780", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:8780"]
)
def test_other_names_are_not(host: str | None) -> None:
    """A name that DNS could point at us is refused, and so is another port."""
    assert not GUARD.knows_host(host)


CHANGES = [
    ({"X-Klinehouse-Token": "right"}, True),
    ({"X-Klinehouse-Token": "right", "Origin": "http://127.0.0.1:8780"}, True),
    ({"X-Klinehouse-Token": "right", "Origin": "http://evil.example"}, False),
    ({"X-Klinehouse-Token": "right", "Origin": "null"}, False),
    ({"X-Klinehouse-Token": "wrong"}, False),
    ({"X-Klinehouse-Token": "ríght"}, False),
    ({"X-Klinehouse-Token": "\udcff"}, False),  # a byte that is no UTF-8, as the server hands it on
    ({}, False),
]


@pytest.mark.parametrize(("headers", "allowed"), CHANGES)
def test_changes_need_token_and_origin(headers: dict[str, str], allowed: bool) -> None:
    """The token alone decides, unless a foreign page sent it."""
    assert GUARD.allows_change(headers) is allowed


def test_the_page_stays_on_loopback() -> None:
    """An address that others can reach is refused, and the message says what to do instead."""
    with pytest.raises(ConfigurationError, match="tunnel"):
        Guard(8780, SecretStr("x"), "0.0.0.0")  # noqa: S104


def test_the_token_is_fresh_and_private(tmp_path: Path) -> None:
    """Each start writes a new token that only its owner can read."""
    path = tmp_path / "state" / "control.token"
    first, second = make_token(path), make_token(path)
    assert first.get_secret_value() != second.get_secret_value() == path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
