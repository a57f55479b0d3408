"""WebSocket frames as bytes, written without a library so that they can also be written wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

TEXT, BINARY, CLOSE, PONG = 0x1, 0x2, 0x8, 0xA
NORMAL, GOING_AWAY, POLICY = 1000, 1001, 1008

#: Frames no client should choke on: broken JSON, wrong types, an unknown command, bytes, and text that is not UTF-8's.
_NONSENSE: tuple[tuple[int, bytes], ...] = (
    (TEXT, b'{"cmd":"depth","data":{"symbol":"BTC'),
    (TEXT, b'{"cmd":"depth","data":{"symbol":7,"bids":"none","asks":null,"timestamp":"soon"}}'),
    (TEXT, b'{"cmd":"trade","data":{"symbol":"BTCUSDT","trades":[{"price":[]}]}}'),
    (TEXT, b'{"cmd":"weather","data":{"sky":"blue"}}'),
    (TEXT, b'[1,2,{"a":null}]'),
    (TEXT, b"not json at all"),
    (TEXT, b""),
    (BINARY, bytes(range(256))),
)


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one unmasked, final frame, as servers send them."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


def message(cmd: str, data: Any, **fields: object) -> bytes:
    """Return the frame of a server's message."""
    return frame(json.dumps({"cmd": cmd, **fields, "data": data}, separators=(",", ":")).encode())


def close(code: int) -> bytes:
    """Return a close frame."""
    return frame(struct.pack("!H", code), CLOSE)


def nonsense(number: int) -> bytes:
    """Return one of the frames that mean nothing."""
    opcode, payload = _NONSENSE[number % len(_NONSENSE)]
    return frame(payload, opcode)
