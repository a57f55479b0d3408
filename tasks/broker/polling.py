"""Reports by asking at intervals, for brokers that push nothing we read."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from tasks.broker.background import Background
from tasks.broker.feed import ReportFeed
from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.errors import KlinehouseError
from tasks.orders.order import TERMINAL

#: Fills are asked for from so long before the newest one: exchanges list them late and out of order.
_OVERLAP = timedelta(minutes=1)
#: Trades and orders that are remembered so as not to tell everything at every turn; listeners count once for ever.
_REMEMBERED = 10_000
#: An order that is neither open nor found so often in a row is not asked for at every turn any more.
_MISSES = 10


class Asked(Protocol):
    """The part of a broker that is asked."""

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order."""
        ...

    async def open_orders(self) -> list[BrokerOrder]:
        """Return every open order."""
        ...

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return every execution from `since` on."""
        ...


class Poller(Background):
    """Asks a broker for what is open and what was filled, and reports what changed.

    Args:
        broker: Whom to ask.
        feed: Where reports go.
        clock: Wall clock, UTC.
        poll_s: Pause between two turns.
    """

    def __init__(self, broker: Asked, feed: ReportFeed, *, clock: Callable[[], datetime], poll_s: float) -> None:
        super().__init__("broker polling", self._run, feed)
        self._broker = broker
        self._clock = clock
        self._poll_s = poll_s
        self._orders: dict[str, BrokerOrder] = {}
        self._missed: Counter[str] = Counter()
        self._names: dict[tuple[str, str], str] = {}
        self._told: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        self._since = clock() - _OVERLAP

    def watch(self, order: BrokerOrder) -> None:
        """Report an order where it is news, and follow it until its end."""
        before = self._orders.get(order.client_order_id)
        self.name(order.symbol, order.broker_order_id, order.client_order_id)
        if before is None or (before.status, before.filled_quantity) != (order.status, order.filled_quantity):
            self._feed.publish(order)
        self._forget(order.client_order_id)
        if order.status not in TERMINAL and order.client_order_id:
            self._orders[order.client_order_id] = order

    def name(self, symbol: str, broker_order_id: str, client_order_id: str) -> None:
        """Remember our id of an order, empty where it is not ours; exchanges may count each symbol's from 1."""
        self._names[symbol, broker_order_id] = client_order_id
        if len(self._names) > _REMEMBERED:
            del self._names[next(iter(self._names))]

    def client_id(self, symbol: str, broker_order_id: str) -> str | None:
        """Return our id of an order that was seen, empty where it is not ours, None of any other."""
        return self._names.get((symbol, broker_order_id))

    async def turn(self) -> None:
        """Ask once and report what changed: fills first, so that an end never comes before them."""
        for one in await self._broker.fills(self._since):
            key = (one.symbol, one.fill.trade_id)
            if key not in self._told:
                self._told.append(key)
                self._feed.publish(one)
            self._since = max(self._since, min(one.fill.timestamp, self._clock()) - _OVERLAP)
        seen = await self._broker.open_orders()
        gone = [one for key, one in self._orders.items() if key not in {each.client_order_id for each in seen}]
        for one in gone:
            found = await self._broker.query(one.client_order_id, one.symbol)
            self._missed[one.client_order_id] += 1
            if found is not None:
                seen.append(found)
            elif self._missed[one.client_order_id] >= _MISSES:
                self._forget(one.client_order_id)
        for order in seen:
            self.watch(order)

    def _forget(self, client_order_id: str) -> None:
        self._orders.pop(client_order_id, None)
        self._missed.pop(client_order_id, None)

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except KlinehouseError as error:
                self._feed.broke(str(error))
            else:
                self._feed.came_up()
            await asyncio.sleep(self._poll_s)
