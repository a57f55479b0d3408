"""What the stream's tests share: sessions brought into any state."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves a folder's own modules out

from stream_frames import answer, depth, make, pong, trade

from tasks.stream.session import Session
from tasks.stream.states import State


def _connecting(session: Session) -> None:
    session.start(0.0)


def _open(session: Session) -> None:
    session.desire([], 0.0)
    session.start(0.0)
    session.opened(0.0)


def _subscribing(session: Session) -> None:
    session.start(0.0)
    session.opened(0.0)


def _live(session: Session) -> None:
    _subscribing(session)
    session.receive(depth(), 0.0)
    session.receive(trade(), 0.0)


def _live_partial(session: Session) -> None:
    _subscribing(session)
    session.receive(answer(2002), 0.0)
    session.receive(answer(0), 0.0)
    session.receive(trade(), 0.0)


def _resync(session: Session) -> None:
    _live(session)
    session.lost(0.0, 1006, "cut")
    session.tick(session.retry_at)
    session.opened(0.0)
    session.receive(depth(), 0.0)
    session.receive(trade(identity="2"), 0.0)


def _stale(session: Session) -> None:
    _live(session)
    for second in range(1, 11):
        session.receive(pong(), float(second) - 10.0)
        session.receive(trade(identity=f"s{second}"), float(second) - 10.0)
    session.link.subscriptions.topics["depth", "BTCUSDT"].watched_from = -10.0
    session.link.heartbeat.last_frame = 0.0
    session.tick(1.0)


def _closing(session: Session) -> None:
    _live(session)
    session.reconnect(0.0)


def _backoff(session: Session) -> None:
    _live(session)
    session.lost(0.0, 1006, "cut")


def _fatal(session: Session) -> None:
    session.start(0.0)
    session.refused(0.0, status=401)


RECIPES: dict[State, Callable[[Session], None]] = {
    State.IDLE: lambda session: None,
    State.CONNECTING: _connecting,
    State.OPEN: _open,
    State.SUBSCRIBING: _subscribing,
    State.RESYNC: _resync,
    State.LIVE: _live,
    State.LIVE_PARTIAL: _live_partial,
    State.STALE: _stale,
    State.CLOSING: _closing,
    State.BACKOFF: _backoff,
    State.FATAL: _fatal,
}


@pytest.fixture
def session_in() -> Callable[[State], Session]:
    """Return a maker of sessions in a given state, with nothing left to take."""

    def build(state: State) -> Session:
        session = make()
        RECIPES[state](session)
        assert session.state is state
        session.take_commands()
        session.take_events()
        return session

    return build
