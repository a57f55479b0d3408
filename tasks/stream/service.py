"""The stream at work: connection, mailbox, desk, recording and refill as the tasks of one group.

The flow builds it, passes the ports (how bars are fetched, who hears alerts) and runs it until it is to stop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from tasks.errors import KlinehouseError
from tasks.stream import gaps
from tasks.stream.desk import Desk
from tasks.stream.events import Alarm, Event, GapBegan, GapEnded, Refused, StateChanged
from tasks.stream.mailbox import Mailbox
from tasks.stream.messages import Message, Trade
from tasks.stream.recording import FLUSH_S, Recorder
from tasks.stream.refill import Refill
from tasks.stream.session import Session
from tasks.stream.socket import Driver, Endpoint
from tasks.stream.subscriptions import Topic
from tasks.stream.way import Way

log = structlog.get_logger(__name__)

#: Work done before other tasks get their turn.
SLICE_S = 0.0002
TICK_S = 0.25
#: Trades taken at once: a fifth of a millisecond's work, as an order takes several turns to leave.
_TRADES_A_SLICE = 40


class StreamService:
    """The live market data of one process.

    Args:
        session: The connection's state.
        endpoint: The vendor.
        desk: What is known of every symbol.
        recorder: Where rows go; None records nothing.
        refill: Fetches bars missed in gaps; None where nothing does.
        listeners: Called for every event of the session. Must not block.
        observer: Called for every message of a desired subscription: symbol, message. Must not block.
        way: Who goes before the ticks; nobody where it is left out.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        desk: Desk,
        *,
        recorder: Recorder | None = None,
        refill: Refill | None = None,
        listeners: Iterable[Callable[[Event], None]] = (),
        observer: Callable[[str, Message], None] | None = None,
        way: Way | None = None,
        max_trades: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self.desk = desk
        self.recorder = recorder
        self.refill = refill
        self.mailbox = Mailbox(max_trades)
        self.driver = Driver(session, endpoint, on_data=self._data, on_event=self._event, clock=clock)
        self.history: deque[dict[str, Any]] = deque(maxlen=200)
        self.alarms: deque[dict[str, Any]] = deque(maxlen=50)
        self.messages = 0
        self.loop_lag_s = 0.0
        self._listeners = tuple(listeners)
        self._observer = observer
        self._way = way or Way()
        self._clock = clock
        self._arrived = asyncio.Event()
        self._writing: asyncio.Future[int] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Stream until `stop` is set; then close the connection, store what is open, and return."""
        loops = [self._consume(), self._tick()]
        loops += [self._record()] if self.recorder is not None else []
        loops += [self.refill.run()] if self.refill is not None else []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(loop) for loop in loops]
                await group.create_task(self.driver.run(stop))
                for task in tasks:
                    task.cancel()
        finally:
            await self._store_rest()

    def refilled_trades(self, symbol: str, trades: Iterable[Trade]) -> None:
        """Take trades fetched by REST after a gap; those already known are left out."""
        now = self._clock()
        self.desk.take_trades((symbol, trade, now) for trade in sorted(trades, key=lambda one: one.timestamp))

    def snapshot(self) -> dict[str, Any]:
        """Return the connection and every symbol as plain values."""
        session, now = self.session, self._clock()
        link = session.link
        return {
            "connection": {
                "state": str(session.state),
                "sentence": session.state.sentence,
                "connects": session.connects,
                "failures": session.backoff.failures,
                "retry_in_s": max(0.0, session.retry_at - now) if session.state == "backoff" else None,
                "clock_offset_ms": link.clock.offset_ms,
                "round_trip_ms": link.clock.round_trip_ms,
                "undecodable": link.alarms.undecodable,
                "refused": [f"{one.channel} {one.symbol}" for one in link.subscriptions.refused],
                "subscriptions": len(link.subscriptions.topics),
                "unfilled": sorted(link.unfilled),
                "history": list(self.history),
            },
            "symbols": self.desk.snapshot(now),
            "throughput": {
                "messages": self.messages,
                "conflated": self.mailbox.conflated,
                "trades_waiting": self.mailbox.waiting,
                "trades_dropped": self.mailbox.dropped,
                "loop_lag_ms": 1000.0 * self.loop_lag_s,
                "latency_p50_ms": _known(self.desk.latency.percentile(0.5)),
                "latency_p99_ms": _known(self.desk.latency.percentile(0.99)),
            },
            "recording": None if self.recorder is None else self._recording(),
            "alarms": list(self.alarms),
        }

    def _recording(self) -> dict[str, Any]:
        assert self.recorder is not None  # noqa: S101  # only asked for where there is one
        return {"written": self.recorder.written, "waiting": self.recorder.waiting, "lost": self.recorder.lost}

    def _data(self, topic: Topic, message: Message, now: float) -> None:
        self.messages += 1
        self.mailbox.put(topic.symbol, message, now)  # type: ignore[arg-type]
        self._arrived.set()
        if self._observer is not None:
            self._observer(topic.symbol, message)

    def _event(self, event: Event) -> None:
        self.desk.hear(event)
        if isinstance(event, StateChanged):
            self.history.append(self._told(event.at, state=str(event.after), reason=event.reason))
            log.info("connection.changed", before=str(event.before), after=str(event.after), reason=event.reason)
        elif isinstance(event, Alarm):
            self.alarms.append(self._told(event.at, kind=str(event.kind), detail=event.detail))
            log.warning("connection.alarmed", kind=str(event.kind), detail=event.detail)
        elif isinstance(event, Refused):
            log.warning("subscription.refused", channel=event.channel, symbols=event.symbols, reason=event.advice)
        elif isinstance(event, GapEnded) and self.refill is not None:
            self.refill.after_gap(event.symbol)
        for listener in self._listeners:
            listener(event)

    def _told(self, at: float, **what: str) -> dict[str, Any]:
        return {"at_ms": round(self.session.wall_ms(at)), **what}

    async def _consume(self) -> None:
        """Take what the mailbox holds, in slices, so that the reader and its pings always get their turn."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while not self.mailbox.empty:
                await self._way.clear()
                if trades := self.mailbox.take_trades(_TRADES_A_SLICE):  # first: books can wait, they conflate
                    self.desk.take_trades(trades)
                    await asyncio.sleep(0)  # whoever decides on trades goes before the books
                    await self._way.clear()
                await self._take_latest()
                for gap in self.mailbox.take_gaps():
                    self._event(GapBegan(gap.channel, gap.symbol, gap.reason, gap.start))
                    self._event(gap)
                await asyncio.sleep(0)

    async def _take_latest(self) -> None:
        until = self._clock() + SLICE_S
        for symbol, message, received in self.mailbox.take_latest():
            self.desk.take(symbol, message, received)
            if self._clock() > until:
                await asyncio.sleep(0)
                await self._way.clear()
                until = self._clock() + SLICE_S

    async def _tick(self) -> None:
        """Tell the desk the time, and measure how late this task is woken: the loop's lag."""
        ticks = 0
        while True:
            due = self._clock() + TICK_S
            await asyncio.sleep(TICK_S)
            now = self._clock()
            self.loop_lag_s = max(now - due, 0.9 * self.loop_lag_s)
            self.desk.set_clock(self.session.link.clock.offset_ms, self.session.link.clock.round_trip_ms)
            self.desk.tick(now)
            ticks += 1
            if ticks % round(1.0 / TICK_S) == 0:
                self.desk.sample(now)

    async def _record(self) -> None:
        """Commit a batch every `FLUSH_S`; a lake that refuses is asked again with the next batch."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> bool:
        assert self.recorder is not None  # noqa: S101  # only called where there is one
        self._writing = asyncio.ensure_future(asyncio.to_thread(self.recorder.flush))
        try:
            rows = await asyncio.shield(self._writing)  # a stop in the middle of a commit waits for it below
        except (KlinehouseError, OSError) as error:
            log.error("recording.delayed", waiting=self.recorder.waiting, reason=str(error))
            return False
        if rows:
            log.debug("recording.written", rows=rows)
        return True

    async def _store_rest(self) -> None:
        """Use what the mailbox still holds, then store it and what is open: gaps as far as now, the last batch."""
        self.desk.take_trades(self.mailbox.take_trades(self.mailbox.waiting))
        if self.recorder is None:
            return
        if self._writing is not None:
            await asyncio.wait([self._writing])
        now = self._clock()
        for topic in self.session.link.subscriptions.topics.values():
            gap = gaps.unfinished(topic, now)
            if gap is not None:
                start, end = self.session.wall_ms(gap.start), self.session.wall_ms(gap.end)
                self.recorder.outage(gap.symbol, gap.channel, start, end, gap.reason)
        await self._flush()


def _known(value: float) -> float | None:
    return value if value == value else None  # NaN is the only value unlike itself
