"""The market's trades of one symbol: each counted once, and which way the last minute leaned."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from tasks.stream.messages import Trade

#: Ids remembered for each symbol: REST returns at most 1,000 trades, so a refill never reaches further back.
REMEMBERED = 5_000


class TradeTape:
    """Trades of one symbol, deduplicated by the vendor's id, with their signed flow over a window.

    The flow is kept in one-second buckets of the venue's time, so that memory is bounded whatever the rate.
    """

    def __init__(self, window_s: int = 60) -> None:
        self.last_price = math.nan
        self.last_ms = 0
        self.count = 0
        self._window_s = window_s
        self._ids: set[str] = set()
        self._order: deque[str] = deque()
        self._buckets: deque[list[float]] = deque()  # second, bought, sold

    def add(self, trades: Iterable[Trade], now_ms: float = math.inf) -> list[Trade]:
        """Return the trades not seen before, and count them.

        Args:
            trades: In order of arrival.
            now_ms: The venue's clock, where it is known: a stamp beyond it counts as of now, or one that is wrong would
                stop last price and flow until that time comes.
        """
        fresh = [trade for trade in trades if self._is_new(str(trade.id)) and _is_sound(trade)]
        for trade in fresh:
            self.count += 1
            stamp_ms = trade.timestamp if trade.timestamp <= now_ms else int(now_ms)
            if stamp_ms >= self.last_ms:
                self.last_ms, self.last_price = stamp_ms, trade.price
            self._count_flow(trade, stamp_ms // 1000)
        return fresh

    def flow(self) -> float:
        """Return ``(bought − sold) / (bought + sold)`` of the window that ends with the last trade; NaN without one."""
        bought = sum(bucket[1] for bucket in self._buckets)
        sold = sum(bucket[2] for bucket in self._buckets)
        return (bought - sold) / (bought + sold) if bought + sold > 0.0 else math.nan

    def remember(self, ids: Iterable[str]) -> None:
        """Take ids that an earlier run recorded, oldest first, so that they are not counted again."""
        for identity in ids:
            self._is_new(identity)

    def _is_new(self, identity: str) -> bool:
        if identity in self._ids:
            return False
        self._ids.add(identity)
        self._order.append(identity)
        if len(self._order) > REMEMBERED:
            self._ids.discard(self._order.popleft())
        return True

    def _count_flow(self, trade: Trade, second: int) -> None:
        newest = self._buckets[-1][0] if self._buckets else -math.inf
        if trade.side == "neutral" or second <= newest - self._window_s:
            return
        if second > newest:
            self._buckets.append([second, 0.0, 0.0])
        bucket = next((one for one in reversed(self._buckets) if one[0] <= second), self._buckets[0])
        bucket[1 if trade.side == "buy" else 2] += trade.quantity
        while self._buckets[0][0] <= self._buckets[-1][0] - self._window_s:
            self._buckets.popleft()


def _is_sound(trade: Trade) -> bool:
    return 0.0 < trade.price < math.inf and 0.0 < trade.quantity < math.inf
