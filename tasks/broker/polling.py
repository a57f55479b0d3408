"""Reports by asking at intervals, for brokers that push nothing we read."""

from __future__ import annotations

import asyncio
from collections import deque
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
        self._names: dict[str, str] = {}
        self._told: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        self._since = clock() - _OVERLAP

    def watch(self, order: BrokerOrder) -> None:
        """Report an order where it is news, and follow it until its end."""
        before = self._orders.get(order.client_order_id)
        self._names[order.broker_order_id] = order.client_order_id
        if len(self._names) > _REMEMBERED:
            del self._names[next(iter(self._names))]
        if before is None or (before.status, before.filled_quantity) != (order.status, order.filled_quantity):
            self._feed.publish(order)
        if order.status in TERMINAL or not order.client_order_id:
            self._orders.pop(order.client_order_id, None)
        else:
            self._orders[order.client_order_id] = order

    def client_id(self, broker_order_id: str) -> str | None:
        """Return our id of an order that was seen, None of any other."""
        return self._names.get(broker_order_id)

    async def turn(self) -> None:
        """Ask once and report what changed: fills first, so that an end never comes before them."""
        for one in await self._broker.fills(self._since):
            key = (one.symbol, one.fill.trade_id)
            if key not in self._told:
                self._told.append(key)
                self._feed.publish(one)
            self._since = max(self._since, one.fill.timestamp - _OVERLAP)
        seen = await self._broker.open_orders()
        gone = [one for key, one in self._orders.items() if key not in {each.client_order_id for each in seen}]
        for one in gone:
            found = await self._broker.query(one.client_order_id, one.symbol)
            seen += [found] if found is not None else []
        for order in seen:
            self.watch(order)

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except KlinehouseError as error:
                self._feed.broke(str(error))
            else:
                self._feed.came_up()
            await asyncio.sleep(self._poll_s)
