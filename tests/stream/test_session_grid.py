"""Every state met by everything that can happen: 275 pairs, each a function call, no socket and no clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from stream_frames import DESIRED, answer, depth, pong, trade

from tasks.stream.events import Close, Connect, GapBegan, Send, StateChanged
from tasks.stream.session import Session
from tasks.stream.states import CONNECTED, State

HAPPENINGS: dict[str, Callable[[Session], object]] = {
    "start": lambda s: s.start(1.0),
    "stop": lambda s: s.stop(1.0),
    "reconnect": lambda s: s.reconnect(1.0),
    "opened": lambda s: s.opened(1.0),
    "refused 401": lambda s: s.refused(1.0, status=401),
    "refused 3003": lambda s: s.refused(1.0, status=429, code=3003),
    "refused 429": lambda s: s.refused(1.0, status=429, retry_after_s=7.0),
    "refused 503": lambda s: s.refused(1.0, status=503),
    "lost 1006": lambda s: s.lost(1.0, 1006, "cut"),
    "depth": lambda s: s.receive(depth(), 1.0),
    "trade": lambda s: s.receive(trade(identity="9"), 1.0),
    "ack": lambda s: s.receive(answer(0), 1.0),
    "ack 2002": lambda s: s.receive(answer(2002), 1.0),
    "ack 3001": lambda s: s.receive(answer(3001), 1.0),
    "error 1001": lambda s: s.receive(answer(1001, "error"), 1.0),
    "error 3003": lambda s: s.receive(answer(3003, "error"), 1.0),
    "error 5000": lambda s: s.receive(answer(5000, "error"), 1.0),
    "garbage": lambda s: s.receive(b"\xff{", 1.0),
    "pong": lambda s: s.receive(pong(), 1.0),
    "tick soon": lambda s: s.tick(1.1),
    "tick dead": lambda s: s.tick(6.0),
    "tick late": lambda s: s.tick(200.0),
    "resynced": lambda s: s.resynced(1.0, ["BTCUSDT"]),
    "desire none": lambda s: s.desire([], 1.0),
    "desire more": lambda s: s.desire([*DESIRED, ("ticker", "ETHUSDT")], 1.0),
}

#: What follows, by state in the order of `State`; a dot means that the state stays.
#:              idle       connecting open subscribing resync live live_partial stale closing backoff fatal
EXPECTED = {
    "start": "    connecting . . . . . . . . . connecting",
    "stop": "     . closing closing closing closing closing closing closing . idle idle",
    "reconnect": ". closing closing closing closing closing closing closing . . .",
    "opened": "   . subscribing . . . . . . . . .",
    "refused 401": ". fatal . . . . . . . . .",
    "refused 3003": ". backoff . . . . . . . . .",
    "refused 429": ". backoff . . . . . . . . .",
    "refused 503": ". backoff . . . . . . . . .",
    "lost 1006": ". backoff backoff backoff backoff backoff backoff backoff backoff . .",
    "depth": "    . . . . . . live resync . . .",
    "trade": "    . . . . . . . . . . .",
    "ack": "      . . . . . . . . . . .",
    "ack 2002": " . . . . . . . . . . .",
    "ack 3001": " . . . . . . . . . . .",
    "error 1001": ". . fatal fatal fatal fatal fatal fatal . . .",
    "error 3003": ". . closing closing closing closing closing closing . . .",
    "error 5000": ". . closing closing closing closing closing closing . . .",
    "garbage": "  . . . . . . . . . . .",
    "pong": "     . . . . . . . . . . .",
    "tick soon": ". . . . . . . . . connecting .",
    "tick dead": ". . closing closing closing closing closing closing . connecting .",
    "tick late": ". closing closing closing closing closing closing closing . connecting .",
    "resynced": " . . . . live . . . . . .",
    "desire none": ". . . open open open open open . . .",
    "desire more": ". . subscribing . subscribing subscribing subscribing subscribing . . .",
}
PAIRS = [(state, happening) for happening in HAPPENINGS for state in State]


@pytest.mark.parametrize(("state", "happening"), PAIRS)
def test_every_pair_leads_where_the_table_says(session_in, state: State, happening: str) -> None:
    """Each happening in each state ends in the state the table names, along rows of the table only."""
    session = session_in(state)
    HAPPENINGS[happening](session)
    named = EXPECTED[happening].split()[list(State).index(state)]
    assert session.state == (state if named == "." else State(named))


@pytest.mark.parametrize(("state", "happening"), PAIRS)
def test_every_pair_keeps_the_promises(session_in, state: State, happening: str) -> None:
    """Changes form a chain, commands fit the state, and data that stops is a gap: whatever happens, wherever."""
    session = session_in(state)
    whole = [topic for topic in session.link.subscriptions.topics.values() if topic.gap_start is None and topic.seen]
    HAPPENINGS[happening](session)
    commands, events = session.take_commands(), session.take_events()

    before = state
    for change in (event for event in events if isinstance(event, StateChanged)):
        assert change.before is before
        before = change.after
    assert before is session.state
    passed = {event.after for event in events if isinstance(event, StateChanged)}
    assert commands.count(Connect()) == (State.CONNECTING in passed)
    if not (state in CONNECTED or passed & CONNECTED):
        assert not any(isinstance(command, Send | Close) for command in commands)
    if state in CONNECTED and session.state not in CONNECTED and happening != "stop":
        began = {(event.channel, event.symbol) for event in events if isinstance(event, GapBegan)}
        assert began >= {(topic.channel, topic.symbol) for topic in whole if topic.seen}
    if session.state is State.FATAL:
        session.tick(1e9)
        assert Connect() not in session.take_commands()
