"""The lines of the journal: kinds, bodies, and the hash that chains each line to the one before."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

import msgspec

from tasks.orders.lifecycle import Event
from tasks.orders.order import OrderRequest


class Kind(StrEnum):
    """What a line is about. `CREATED` and `EVENT` make the state of orders; all others explain it."""

    CREATED = "created"
    EVENT = "event"
    SIGNAL = "signal"
    DATA = "data"
    RISK = "risk"
    LIMITS = "limits"
    SEND = "send"
    REPLY = "reply"
    QUERY = "query"
    RECONCILE = "reconcile"
    DAY = "day"
    ACCOUNT = "account"
    ANOMALY = "anomaly"
    ERROR = "error"
    CONNECTION = "connection"
    OPERATOR = "operator"
    START = "start"
    SHUTDOWN = "shutdown"


class Entry(msgspec.Struct, frozen=True):
    """A line before it is written.

    Attributes:
        kind: What it is about.
        client_order_id: The order it belongs to, empty for none.
        body: An `OrderRequest` for `CREATED`, an `Event` for `EVENT`, else anything JSON can hold. Never a secret.
    """

    kind: Kind
    client_order_id: str = ""
    body: Any = None


class Line(msgspec.Struct, frozen=True):
    """A line as it stands in the journal.

    Attributes:
        seq: Counts from 1 without a gap.
        epoch: Which start of the process wrote it.
        wall_ns: When, by the wall clock, nanoseconds since the epoch.
        mono_ns: The same by the monotonic clock, comparable for as long as the machine runs.
        client_order_id: The order it belongs to, empty for none.
        kind: What it is about.
        payload: The body as JSON.
        hash: Of this line and the hash of the line before.
    """

    seq: int
    epoch: int
    wall_ns: int
    mono_ns: int
    client_order_id: str
    kind: str
    payload: bytes
    hash: bytes

    def body(self) -> Any:
        """Return the body: typed for `CREATED` and `EVENT`, plain JSON values otherwise."""
        return decode(self.kind, self.payload)


FIRST_HASH = b"\0" * 32


def _plain(value: Any) -> Any:
    """Return what JSON does not know as something it does: what numpy and polars hold as itself, else text."""
    plain = getattr(value, "tolist", None) or getattr(value, "to_list", None)
    return plain() if callable(plain) else str(value)


_ENCODER = msgspec.json.Encoder(order="deterministic", decimal_format="string", enc_hook=_plain)
_PLAIN = msgspec.json.Decoder()
_REQUEST, _EVENT = msgspec.json.Decoder(OrderRequest), msgspec.json.Decoder(Event)
_DECODERS: dict[str, msgspec.json.Decoder] = {Kind.CREATED.value: _REQUEST, Kind.EVENT.value: _EVENT}

#: The bodies of the two kinds that make the state, for whoever reads a million of them.
decode_request, decode_event = _REQUEST.decode, _EVENT.decode


def encode(body: Any) -> bytes:
    """Return a body as canonical JSON: the same value gives the same bytes."""
    return _ENCODER.encode(body)


def decode(kind: str, payload: bytes) -> Any:
    """Return a line's body: typed for `CREATED` and `EVENT`, plain JSON values otherwise."""
    return _DECODERS.get(kind, _PLAIN).decode(payload)


def chain(previous: bytes, line: tuple[int, int, int, int, str, str, bytes]) -> bytes:
    """Return the hash of a line, given the hash of the line before it."""
    seq, epoch, wall_ns, mono_ns, client_order_id, kind, payload = line
    head = f"{seq}\x1f{epoch}\x1f{wall_ns}\x1f{mono_ns}\x1f{client_order_id}\x1f{kind}\x1f".encode()
    return hashlib.sha256(previous + head + payload).digest()
