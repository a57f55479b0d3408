"""What a session asks of its driver, and what it tells whoever listens. Times are seconds of the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tasks.stream.messages import Channel
from tasks.stream.states import State


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the socket now; answer with `opened`, `refused` or `lost`."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes as one text frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Begin the close handshake; answer with `lost` when the connection is gone."""

    code: int = 1000


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop the connection, or the attempt, without any handshake; answer with `lost`."""


@dataclass(frozen=True, slots=True)
class Reap:
    """Close our own dead connections at the vendor; answer with `reaped`."""


Command = Connect | Send | Close | Abort | Reap


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The connection went from one state to another, and why."""

    at: float
    before: State
    after: State
    reason: str


class GapReason(StrEnum):
    """Why data of one subscription is missing."""

    LOST = "connection lost"
    SILENT = "subscription silent"
    OVERFLOW = "trades dropped: the consumer was too slow"
    NOT_RUNNING = "not running"
    NOT_WRITTEN = "not written: the lake refused for too long"


@dataclass(frozen=True, slots=True)
class GapBegan:
    """From `start` on, data of this subscription may be missing."""

    channel: Channel
    symbol: str
    reason: GapReason
    start: float


@dataclass(frozen=True, slots=True)
class GapEnded:
    """Data of this subscription may be missing in ``[start, end)``, and flows again."""

    channel: Channel
    symbol: str
    reason: GapReason
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refused subscriptions; the others go on."""

    channel: Channel
    symbols: tuple[str, ...]
    code: int | str
    advice: str


@dataclass(frozen=True, slots=True)
class Degraded:
    """A channel is unavailable; REST at the plan's rate serves these symbols, flagged as degraded."""

    channel: Channel
    symbols: tuple[str, ...]


class AlarmKind(StrEnum):
    """What a person should hear of."""

    DENIED = "access denied"
    UNDECODABLE = "undecodable frame"
    SKEWED = "clock skewed"
    LASTING = "outage lasting"
    LOCKED_OUT = "too many connections"
    QUOTA = "quota used up"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person should hear of, once."""

    at: float
    kind: AlarmKind
    detail: str


Event = StateChanged | GapBegan | GapEnded | Refused | Degraded | Alarm
