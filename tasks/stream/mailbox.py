"""Between the reader and whoever uses the data: the reader never waits, and memory is bounded.

Depth and ticker conflate: only the latest of each symbol counts. Trades queue up to a limit; what overflows is counted
and becomes a gap, so that nobody takes a torn tape for a whole one.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from tasks.stream.events import GapEnded, GapReason
from tasks.stream.messages import Depth, Ticker, Trade, Trades

Latest = Depth | Ticker


class _Waiting(Struct, gc=False, frozen=True):
    """A trade in the queue. The collector does not look at it: a long queue of tuples would keep it busy for ms."""

    symbol: str
    trade: Trade
    received: float


class Mailbox:
    """What arrived and was not used yet.

    Attributes:
        dropped: Trades lost to overflow since the start.
        conflated: Snapshots replaced by newer ones before anybody looked.
    """

    def __init__(self, max_trades: int = 10_000) -> None:
        self.dropped = 0
        self.conflated = 0
        self._max_trades = max_trades
        self._latest: dict[tuple[str, type], tuple[str, Latest, float]] = {}
        self._trades: deque[_Waiting] = deque()
        self._overflow: dict[str, list[float]] = {}

    def put(self, symbol: str, message: Depth | Ticker | Trades, now: float) -> None:
        """Take one message of `symbol`, in our spelling, received at `now`."""
        if isinstance(message, Trades):
            for trade in message.trades:
                self._queue(symbol, trade, now)
            return
        key = (symbol, type(message))
        self.conflated += key in self._latest
        self._latest[key] = (symbol, message, now)

    def take_latest(self) -> list[tuple[str, Latest, float]]:
        """Return, once, the latest snapshot of every symbol that has a new one: symbol, message, received."""
        latest, self._latest = self._latest, {}
        return list(latest.values())

    def take_trades(self, limit: int = 1_000) -> list[tuple[str, Trade, float]]:
        """Return, once, up to `limit` trades in the order of arrival: symbol, trade, received."""
        taken = (self._trades.popleft() for _ in range(min(limit, len(self._trades))))
        return [(one.symbol, one.trade, one.received) for one in taken]

    def take_gaps(self) -> list[GapEnded]:
        """Return, once, what overflowed, as a gap for each symbol."""
        overflow, self._overflow = self._overflow, {}
        return [GapEnded("trade", symbol, GapReason.OVERFLOW, start, end) for symbol, (start, end) in overflow.items()]

    @property
    def waiting(self) -> int:
        """Trades queued."""
        return len(self._trades)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._latest or self._trades or self._overflow)

    def _queue(self, symbol: str, trade: Trade, now: float) -> None:
        self._trades.append(_Waiting(symbol, trade, now))
        if len(self._trades) > self._max_trades:
            lost = self._trades.popleft()
            self.dropped += 1
            self._overflow.setdefault(lost.symbol, [lost.received, lost.received])[1] = lost.received
