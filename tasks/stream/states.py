"""The states of a market-data connection, and every way from one to the next, as data.

A connection's life is the table `LIFECYCLE`. While it is up, which of the six connected states it is in follows from
facts alone (`HEALTH`): the first fact that holds names the state, so no path can leave a flag behind.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class State(StrEnum):
    """Where the connection stands. Each value is followed by the sentence the control page shows."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> State:
        """Build the member from its value and its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    IDLE = "idle", "Not started, or stopped on request; nothing is open."
    CONNECTING = "connecting", "A handshake is under way; it has ten seconds."
    OPEN = "open", "The handshake is done and nothing is subscribed."
    SUBSCRIBING = "subscribing", "Subscriptions are being replayed; not all are answered."
    RESYNC = "resync", "Data flows again; bars missed in the gap are still being fetched."
    LIVE = "live", "Every desired subscription is confirmed and delivers."
    LIVE_PARTIAL = "live_partial", "Data flows, but the server refused part of what is desired."
    STALE = "stale", "Connected, but at least one subscription has gone silent."
    CLOSING = "closing", "The connection is being given up; the close handshake has five seconds."
    BACKOFF = "backoff", "Waiting before the next attempt."
    FATAL = "fatal", "The key or the plan was refused; nothing is tried until a person acts."


CONNECTED = frozenset({State.OPEN, State.SUBSCRIBING, State.RESYNC, State.LIVE, State.LIVE_PARTIAL, State.STALE})
#: States in which desired data arrives, so that time spent in them counts as stable.
FLOWING = frozenset({State.RESYNC, State.LIVE, State.LIVE_PARTIAL})


class Trigger(StrEnum):
    """What can move a connection."""

    START = "start"  # an operator or the flow wants it up
    OPENED = "opened"  # the handshake succeeded
    LOST = "lost"  # the connection or the attempt ended, and another is wanted
    RESTED = "rested"  # it ended, and none is wanted
    DENIED = "denied"  # the vendor refused key or plan
    GIVEN_UP = "given_up"  # a detector, or an operator, declared it dead
    RETRY = "retry"  # the wait is over
    STOP = "stop"  # nobody wants it any more


def _lifecycle() -> dict[tuple[State, Trigger], State]:
    table = {
        (State.IDLE, Trigger.START): State.CONNECTING,
        (State.CONNECTING, Trigger.OPENED): State.OPEN,
        (State.CONNECTING, Trigger.LOST): State.BACKOFF,
        (State.CONNECTING, Trigger.DENIED): State.FATAL,
        (State.CONNECTING, Trigger.GIVEN_UP): State.CLOSING,
        (State.CONNECTING, Trigger.STOP): State.CLOSING,
        (State.CLOSING, Trigger.LOST): State.BACKOFF,
        (State.CLOSING, Trigger.RESTED): State.IDLE,
        (State.CLOSING, Trigger.DENIED): State.FATAL,
        (State.BACKOFF, Trigger.RETRY): State.CONNECTING,
        (State.BACKOFF, Trigger.STOP): State.IDLE,
        (State.FATAL, Trigger.START): State.CONNECTING,
        (State.FATAL, Trigger.STOP): State.IDLE,
    }
    for state in CONNECTED:
        table[state, Trigger.LOST] = State.BACKOFF
        table[state, Trigger.DENIED] = State.FATAL
        table[state, Trigger.GIVEN_UP] = State.CLOSING
        table[state, Trigger.STOP] = State.CLOSING
    return table


#: (state, trigger) → next state. A pair that is not here changes nothing: it is late news about a past connection.
LIFECYCLE = _lifecycle()


class Fact(StrEnum):
    """What is true of a connection that is up."""

    NOTHING_DESIRED = "nothing desired"
    UNANSWERED = "a subscription has neither answer nor data since this connection opened"
    SILENT = "a subscription went silent"
    GAP_UNFILLED = "bars missed in a gap are not yet fetched"
    REFUSED = "the server refused a subscription"


#: First fact that holds names the state; with none it is live.
HEALTH: tuple[tuple[Fact, State], ...] = (
    (Fact.NOTHING_DESIRED, State.OPEN),
    (Fact.UNANSWERED, State.SUBSCRIBING),
    (Fact.SILENT, State.STALE),
    (Fact.GAP_UNFILLED, State.RESYNC),
    (Fact.REFUSED, State.LIVE_PARTIAL),
)


def step(state: State, trigger: Trigger) -> State:
    """Return the state after `trigger`; the same state where the pair has no row."""
    return LIFECYCLE.get((state, trigger), state)


def health(facts: Collection[Fact]) -> State:
    """Return the connected state that follows from `facts`."""
    return next((state for fact, state in HEALTH if fact in facts), State.LIVE)
