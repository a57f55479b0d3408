"""What is known of every symbol, kept up to date from the mailbox: books, tapes, monitors, and what gets recorded.

No I/O: the desk is told of data and of events, and answers questions. `tasks.stream.service` runs it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.stream.book import Book, BookPolicy, Quote
from tasks.stream.clock import MOST_MS
from tasks.stream.events import Degraded, Event, GapBegan, GapEnded
from tasks.stream.latency import Latency
from tasks.stream.messages import Depth, Ticker, Trade
from tasks.stream.monitor import Alert, MonitorPolicy, PressureMonitor
from tasks.stream.recording import Recorder
from tasks.stream.trades import TradeTape

#: Points of the page's sparkline, one a second.
SPARK_POINTS = 120


@dataclass(frozen=True, slots=True)
class DeskPolicy:
    """How books are trusted, pressure is watched and depth is recorded.

    Attributes:
        book: When a book is good enough.
        monitor: Thresholds of pressure.
        record_depth_every_s: At most one book of a symbol is recorded in this time.
    """

    book: BookPolicy = field(default_factory=BookPolicy)
    monitor: MonitorPolicy = field(default_factory=MonitorPolicy)
    record_depth_every_s: float = 1.0


@dataclass(slots=True)
class Seat:
    """One symbol's place at the desk."""

    book: Book
    tape: TradeTape
    monitor: PressureMonitor
    last_price: float = math.nan
    recorded: float = -math.inf
    latency_ms: float = math.nan
    torn: bool = False  # trades are missing
    spark: deque[float] = field(default_factory=lambda: deque(maxlen=SPARK_POINTS))


class Desk:
    """Every symbol's book, tape and monitor.

    Args:
        symbols: What is watched.
        policy: When to trust, tell and record.
        recorder: Where rows go; None records nothing.
        on_alert: Called once for each episode of pressure. Must not block.
        to_wall_ms: Turns a monotonic time into wall-clock milliseconds.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        policy: DeskPolicy,
        *,
        recorder: Recorder | None,
        on_alert: Callable[[Alert], None],
        to_wall_ms: Callable[[float], float],
    ) -> None:
        self.latency = Latency()
        self.alerts: deque[Alert] = deque(maxlen=50)
        self.seats = {
            symbol: Seat(Book(symbol, policy.book), TradeTape(), PressureMonitor(symbol, policy.monitor))
            for symbol in symbols
        }
        self._policy = policy
        self._recorder = recorder
        self._on_alert = on_alert
        self._to_wall_ms = to_wall_ms
        self._offset_ms: float | None = None
        self._error_ms = 0.0

    def remember(self, trades: Mapping[str, list[str]]) -> None:
        """Take the ids of trades that an earlier run recorded: a refill repeats them."""
        for symbol, ids in trades.items():
            if symbol in self.seats:
                self.seats[symbol].tape.remember(ids)

    def set_clock(self, offset_ms: float | None, round_trip_ms: float | None) -> None:
        """Take the venue's clock as the session measured it, unless it can be none."""
        self._offset_ms = None if offset_ms is None or abs(offset_ms) > MOST_MS else offset_ms
        self._error_ms = (round_trip_ms or 0.0) / 2.0

    def take(self, symbol: str, message: Depth | Ticker, received: float) -> None:
        """Take the latest book or ticker of a symbol."""
        seat = self.seats.get(symbol)
        if seat is None:
            return
        self._note_latency(seat, message.timestamp, received)
        if isinstance(message, Ticker):
            seat.last_price = message.last_price
            return
        seat.book.apply(message, received)
        self._observe(seat, received)
        if self._recorder is not None and received - seat.recorded >= self._policy.record_depth_every_s:
            seat.recorded = received
            self._recorder.depth(symbol, message, self._to_wall_ms(received))

    def take_trades(self, trades: Iterable[tuple[str, Trade, float]]) -> None:
        """Take trades in order of arrival: symbol, trade, received."""
        for symbol, trade, received in trades:
            seat = self.seats.get(symbol)
            if seat is None or not seat.tape.add([trade], self._venue_ms(received)):
                continue
            seat.last_price = seat.tape.last_price
            if self._recorder is not None:
                self._recorder.trade(symbol, trade, self._to_wall_ms(received))

    def hear(self, event: Event) -> None:
        """Take what the session tells: a gap empties the book, its end is stored as an outage."""
        if isinstance(event, GapEnded) and self._recorder is not None:
            start, end = self._to_wall_ms(event.start), self._to_wall_ms(event.end)
            self._recorder.outage(event.symbol, event.channel, start, end, event.reason)
        if isinstance(event, Degraded) and event.channel == "depth":
            for symbol in event.symbols:
                self._degrade(symbol)
        if isinstance(event, GapBegan | GapEnded) and event.channel == "trade" and event.symbol in self.seats:
            self.seats[event.symbol].torn = isinstance(event, GapBegan)
        if isinstance(event, GapBegan | GapEnded) and event.channel == "depth" and event.symbol in self.seats:
            book = self.seats[event.symbol].book
            book.begin_gap()
            if isinstance(event, GapEnded):
                book.end_gap()

    def restore(self, symbol: str) -> None:
        """Take a symbol's book from its channel again, which is back."""
        self.seats[symbol].book.degraded = False

    def tick(self, now: float) -> None:
        """Let time pass: books grow old, dwell times run on, sparklines move."""
        for seat in self.seats.values():
            self._observe(seat, now)

    def sample(self, now: float) -> None:
        """Add one point to every sparkline; an invalid book leaves a hole."""
        for seat in self.seats.values():
            seat.spark.append(self.quote(seat, now).pressure_ratio)

    def quote(self, seat: Seat, now: float) -> Quote:
        """Return what a symbol's book says now."""
        venue_ms = None if self._offset_ms is None else self._venue_ms(now)
        return seat.book.quote(now, venue_ms)

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """Return every symbol's state as plain values; what is not known, or not valid, is None."""
        return [self._describe(symbol, seat, now) for symbol, seat in self.seats.items()]

    def _observe(self, seat: Seat, now: float) -> None:
        told = seat.monitor.observe(self.quote(seat, now), now)
        if isinstance(told, Alert):
            self.alerts.append(told)
            if self._recorder is not None:
                self._recorder.alert(told, self._to_wall_ms(now))
            self._on_alert(told)

    def _degrade(self, symbol: str) -> None:
        """Take a symbol's book from REST from now on: the channel's gap is over, its snapshots are flagged."""
        if symbol in self.seats:
            self.seats[symbol].book.degraded = True
            self.seats[symbol].book.end_gap()

    def _venue_ms(self, now: float) -> float:
        """Return the venue's clock at `now`, infinite while nobody knows it."""
        return math.inf if self._offset_ms is None else self._to_wall_ms(now) + self._offset_ms

    def _note_latency(self, seat: Seat, timestamp_ms: int, received: float) -> None:
        if self._offset_ms is not None:
            seat.latency_ms = self._to_wall_ms(received) + self._offset_ms - timestamp_ms
            self.latency.add(seat.latency_ms, self._error_ms)

    def _describe(self, symbol: str, seat: Seat, now: float) -> dict[str, Any]:
        quote = self.quote(seat, now)
        last = seat.last_price if math.isfinite(seat.last_price) else (quote.bid + quote.ask) / 2.0
        return {
            "symbol": symbol,
            "last_price": _finite(last),
            "bid": _finite(quote.bid),
            "ask": _finite(quote.ask),
            "spread": _finite(quote.spread),
            "pressure_ratio": _finite(quote.pressure_ratio),
            "imbalance": _finite(quote.imbalance),
            "microprice": _finite(quote.microprice),
            "trade_flow": None if seat.torn else _finite(seat.tape.flow()),
            "trades": seat.tape.count,
            "valid": quote.validity.ok,
            "faults": [str(fault) for fault in quote.validity.faults],
            "age_s": _finite(quote.validity.age_s),
            "levels": quote.validity.levels,
            "latency_ms": None if seat.book.gap else _finite(seat.latency_ms),
            "episode": seat.monitor.episode,
            "spark": [_finite(point) for point in seat.spark],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
