"""Client order ids that say what an order is for, so that the same signal after a restart is the same order."""

from __future__ import annotations

import base64
import hashlib

from tasks.errors import InputError

#: Two characters of ours and 80 bits of hash: 18 characters of ``[a-z2-7]``, which every broker we know takes
#: (Kraken's free text ends at 18).
_PREFIX = "kh"
_BYTES, _BITS_AS_CHARACTERS = 10, 16


def client_order_id(account: str, strategy: str, signal_key: str, leg: str = "") -> str:
    """Return the id of the one order that a strategy's signal may become.

    No time, process or attempt goes into it. A new attempt after a definite rejection is a new intent with another
    `leg`.

    Raises:
        InputError: A part is empty, or holds the separator that keeps the parts apart.
    """
    parts = (account, strategy, signal_key)
    if not all(parts) or any("\x1f" in part for part in (*parts, leg)):
        raise InputError(
            f"client order id: expected account, strategy and signal key without control signs, found {parts}"
        )
    digest = hashlib.sha256("\x1f".join((*parts, leg)).encode()).digest()
    return _PREFIX + base64.b32encode(digest[:_BYTES]).decode().lower()


def is_ours(identifier: str) -> bool:
    """Return whether an id has the form that `client_order_id` gives."""
    body = identifier.removeprefix(_PREFIX)
    return (
        identifier.startswith(_PREFIX)
        and len(body) == _BITS_AS_CHARACTERS
        and set(body) <= set("abcdefghijklmnopqrstuvwxyz234567")
    )


def signal_key(symbol: str, rule: str, side: str, moment: str) -> str:
    """Return what an order was decided on: the bar's close or the episode's id, never the time of sending."""
    return f"{symbol}|{rule}|{side}|{moment}"
