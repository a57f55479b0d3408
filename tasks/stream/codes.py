"""The vendor's codes, HTTP statuses and close codes, by what cures them: a table, so that no handler can disagree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Cure(StrEnum):
    """What a code asks of us."""

    NONE = "none"  # success
    DENY = "deny"  # a person changes key or plan; never tried again
    DROP = "drop"  # that command is wrong; the connection stays
    PENALTY = "penalty"  # send nothing until the vendor's wait is over
    QUOTA = "quota"  # send nothing until the quota's reset
    REAP = "reap"  # close our own dead connections, or wait until the server does
    SHRINK = "shrink"  # ask for less; reconnecting would not help
    FALL_BACK = "fall_back"  # the channel is down; the REST endpoint serves in its place
    RETRY = "retry"  # server trouble; back off


CURES: Mapping[int | str, Cure] = MappingProxyType(
    {
        0: Cure.NONE,
        1001: Cure.DENY,
        1002: Cure.DENY,
        1003: Cure.DENY,
        1004: Cure.DENY,
        2001: Cure.DROP,
        2002: Cure.DROP,
        "AMBIGUOUS_SYMBOL": Cure.DROP,
        3001: Cure.PENALTY,
        3002: Cure.QUOTA,
        3003: Cure.REAP,
        3004: Cure.SHRINK,
        4001: Cure.DROP,
        4002: Cure.DROP,
        4003: Cure.FALL_BACK,
        4004: Cure.FALL_BACK,
        5000: Cure.RETRY,
        5001: Cure.RETRY,
        5002: Cure.RETRY,
    }
)

#: What to tell a person, by code. The server's own text is never repeated: it may quote the key.
ADVICE: Mapping[int | str, str] = MappingProxyType(
    {
        1001: "the API key is not valid; set KLINEHOUSE_API_KEY to a valid one",
        1002: "no API key arrived; set KLINEHOUSE_API_KEY",
        1003: "this address is not on the key's list; add it at the vendor",
        1004: "the plan lacks this right; change the plan or what is asked",
        2001: "the server found a parameter wrong",
        2002: "the vendor does not list a symbol of this command",
        "AMBIGUOUS_SYMBOL": "the symbol means more than one instrument; name it with its market suffix",
        3001: "too many commands; waiting as long as the vendor asks",
        3002: "the plan's quota is used up; waiting for its reset",
        3003: "too many connections with this key; closing our dead ones, else waiting until the server does",
        3004: "the plan allows no more subscriptions; the last ones asked for are left out",
        4001: "the server does not know this command",
        4002: "the server could not read this command",
        4003: "the depth channel is unavailable; polling REST instead",
        4004: "the trade channel is unavailable; polling REST instead",
    }
)

_HTTP: Mapping[int, Cure] = MappingProxyType({401: Cure.DENY, 403: Cure.DENY, 429: Cure.PENALTY})

#: WebSocket close code for a message larger than we accept.
TOO_BIG = 1009


def cure_of(code: int | str) -> Cure:
    """Return the cure of a vendor code; an unknown one is treated as server trouble."""
    return CURES.get(code, Cure.RETRY)


def cure_of_refusal(status: int | None, code: int | str | None) -> Cure:
    """Return the cure of a refused handshake: the vendor's code decides where the body has one, else the status."""
    if code is not None and code != 0:
        return cure_of(code)
    return _HTTP.get(status, Cure.RETRY) if status is not None else Cure.RETRY


def advice(code: int | str | None, status: int | None = None) -> str:
    """Return one sentence for a person about a code, or about a status without one."""
    if code is not None and code in ADVICE:
        return f"{code}: {ADVICE[code]}"
    if status is not None and code is None:
        return f"HTTP {status}: {'key or plan refused' if status in (401, 403) else 'handshake refused'}"
    return f"{code}: server trouble; retrying with backoff"
