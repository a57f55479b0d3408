"""Two clocks of a live run: the venue's, which says what has closed, and this machine's, which may be set or stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from flows.live_market import wall_clock
from lake.timeline import from_ms
from tasks.stream.clock import MOST_MS
from tasks.stream.session import Session

log = structlog.get_logger("flows.live")

#: How often our clock is looked at, and by how much it must have left the monotonic one.
_LOOK_S, _JUMP_S = 1.0, 2.0
#: How long the venue's clock is waited for before ours is trusted.
_WAIT_S = 5.0


class LiveClock:
    """The market's time in real time, and an eye on ours.

    Args:
        session: Its pongs tell the venue's clock.
        tell: Changes the session, as its driver does.
    """

    def __init__(self, session: Session, tell: Callable[[Callable[[Session, float], None]], None]) -> None:
        self._session, self._tell = session, tell
        self._until = 0.0  # known is waited for until then, counted from who first wants it

    def now(self) -> datetime:
        """Return the market's time by the venue's own clock: to one that runs ahead, a forming bar looks closed.

        It counts on from the venue's last pongs, so that whoever sets our clock changes nothing; ours stands in only
        where no pong has come, or one a day away that is no clock's.
        """
        offset_ms = self._session.link.clock.offset_ms
        if offset_ms is None or abs(offset_ms) > MOST_MS:
            return wall_clock()
        return from_ms(round(self._session.wall_ms(time.monotonic()) + offset_ms))

    async def known(self) -> None:
        """Wait for the venue's clock, not for long: at a start, and after ours was set, it is not known."""
        self._until = self._until or time.monotonic() + _WAIT_S
        while self._session.link.clock.offset_ms is None and time.monotonic() < self._until:  # noqa: ASYNC110  (polled)
            await asyncio.sleep(0.02)
        if self._session.link.clock.offset_ms is not None:
            self._until = 0.0

    async def watch(self) -> None:
        """Notice, for ever, that our clock was set, or went on while this machine stood still."""
        while True:
            await asyncio.sleep(_LOOK_S)
            by_s = wall_clock().timestamp() - self._session.wall_ms(time.monotonic()) / 1000.0
            if abs(by_s) > _JUMP_S:
                log.warning("clock.jumped", by_s=round(by_s, 3), advice="suspended, or set; kept as an outage if ahead")
                self._tell(lambda session, now, by_s=by_s: session.jumped(now, by_s))
