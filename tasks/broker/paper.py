"""The paper broker: real order handling, pretended money. The default, and the only broker a new user needs.

It is a class A broker: a client order id is the same order for ever, across restarts and `kill -9`. The market comes in
through `on_book` and `on_trade` while live, through `on_bar` when history is replayed; fills follow
`tasks.broker.matching`. Nothing is answered or reported before it is durable in `tasks.broker.ledger`, whose one thread
keeps the disk out of the event loop. All methods belong to the loop's thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from tasks.broker.feed import ReportFeed
from tasks.broker.ledger import DEAD_MAN, Ledger
from tasks.broker.matching import (
    Bar,
    Depth,
    Execution,
    Number,
    Terms,
    Working,
    exact,
    fill_by_bar,
    fill_by_trade,
    is_immediate,
)
from tasks.broker.port import (
    Account,
    BrokerFill,
    BrokerOrder,
    Connected,
    DefiniteRejection,
    Disconnected,
    Features,
    NotSentError,
    OutcomeUnknownError,
    Recorded,
    Report,
    on_disk,
)
from tasks.broker.purse import Purse
from tasks.errors import TransientError
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import ZERO, OrderRequest, Status, TimeInForce

Levels = Sequence[tuple[Number, Number]]
_T = TypeVar("_T")


class PaperBroker:
    """A broker account on paper.

    Args:
        path: The account's file; created where there is none.
        clock: The broker's clock.
        terms: What trading costs.
    """

    name = "paper"
    profile = IdempotencyProfile(IdempotencyClass.A, deadline_s=None, lag_s=0.0)
    is_live = False
    features = Features(immediate_limits=True, dead_man=True)

    def __init__(self, path: Path, *, clock: Callable[[], datetime], terms: Terms | None = None) -> None:
        self._terms = terms or Terms()
        self._clock = clock
        self._ledger = Ledger(path, self._terms)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="paper-ledger")
        self._writes: set[asyncio.Future[Any]] = set()
        self._broken = ""
        self._feed = ReportFeed()
        self._feed.publish(Connected())
        self._purse = Purse(self._terms, self._ledger.cash(), self._ledger.holdings())
        self._books: dict[str, tuple[Levels, Levels, datetime]] = {}
        self._depths: dict[str, Depth] = {}
        self._halted: set[str] = set()
        self._dead_man: asyncio.TimerHandle | None = None
        self._ledger.expire(clock())
        self._working: dict[str, Working] = {}
        self._by_symbol: defaultdict[str, list[Working]] = defaultdict(list)
        for order in self._ledger.working():
            self._admit(order)

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order; the same client order id is answered with the same order for ever. See `Broker.submit`."""
        await recorded()
        if self._broken:
            raise NotSentError(f"paper broker: its ledger failed ({self._broken}); mend the disk and start again")
        identifier, now = request.client_order_id, self._clock()
        halted = f"trading in {request.symbol} is halted" if request.symbol in self._halted else ""
        reason = halted or self._purse.refusal(request, self._working.values())
        active_at = now + timedelta(seconds=float(self._terms.latency_s))
        mine = None
        if not reason and identifier not in self._working:
            mine = Working(request, request.quantity, active_at)
            self._admit(mine)
        status = Status.REJECTED if reason else Status.ACCEPTED

        def enter() -> tuple[bool, BrokerOrder]:
            is_new = self._ledger.place(request, status, active_at, now, reason)
            order = self._ledger.order(identifier)
            assert order is not None  # noqa: S101  (just placed, or there before)
            return is_new, order

        placed = self._write(enter)
        placed.add_done_callback(lambda done: self._entered(done, request, mine))
        try:
            _, order = await asyncio.shield(placed)
        except sqlite3.Error as error:
            raise OutcomeUnknownError(f"paper broker: {identifier} may or may not be in its ledger: {error}") from error
        if order.status is Status.REJECTED:
            raise DefiniteRejection(f"paper broker: {identifier}: {order.reason}")
        return order

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Cancel an order. See `Broker.cancel`."""
        if self._broken:
            raise NotSentError(f"paper broker: its ledger failed ({self._broken}); mend the disk and start again")
        order = self._working.get(client_order_id)
        if order is not None and not order.committed:
            await asyncio.wait({*self._writes})
            order = self._working.get(client_order_id)
        if order is None:
            known = await self.query(client_order_id, symbol)
            found = "no such order" if known is None else f"{known.status}"
            raise DefiniteRejection(f"paper broker: cancel {client_order_id}: expected a working order, found {found}")
        try:
            _, ended = await asyncio.shield(
                self._record(order, [], self._clock(), Status.CANCELED, "canceled by client")
            )
        except sqlite3.Error as error:
            raise OutcomeUnknownError(f"paper broker: cancel {client_order_id}: {error}") from error
        return ended

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order. See `Broker.query`; here None is conclusive."""
        return await self._read(lambda: self._ledger.order(client_order_id))

    async def open_orders(self) -> list[BrokerOrder]:
        """Return every working order. See `Broker.open_orders`."""
        return await self._read(self._ledger.open_orders)

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return every execution from `since` on. See `Broker.fills`."""
        return await self._read(lambda: self._ledger.fills(since))

    async def account(self) -> Account:
        """Return cash and positions at the last known prices. See `Broker.account`."""
        cash, held = await self._read(lambda: (self._ledger.cash(), self._ledger.holdings()))
        positions = {symbol: one.quantity for symbol, one in held.items()}
        return Account(cash + self._purse.worth(held), self._purse.available(self._working.values()), positions, cash)

    def reports(self) -> AsyncIterator[Report]:
        """Yield everything that happens from this call on. See `Broker.reports`."""
        return self._feed.subscribe()

    async def close(self) -> None:
        """Finish what is being written and release the file."""
        if self._dead_man is not None:
            self._dead_man.cancel()
        if not self._broken:
            await self.settle()
        self._broken = self._broken or "closed"
        self._thread.shutdown(wait=True)
        self._ledger.close()

    async def cancel_all_after(self, timeout_s: float) -> None:
        """Cancel everything in so long, also where this process has died by then. See `Broker.cancel_all_after`."""
        if self._dead_man is not None:
            self._dead_man.cancel()
        self._dead_man, at = None, None
        if timeout_s > 0:
            at = self._clock() + timedelta(seconds=timeout_s)
            self._dead_man = asyncio.get_running_loop().call_later(timeout_s, self._outlive)
        await self._read(lambda: self._ledger.expire_at(at))

    def on_book(self, symbol: str, bids: Levels, asks: Levels, timestamp: datetime) -> None:
        """Fill what a snapshot of a book fills: levels of price and size, best first.

        An older one is ignored; the same one once more, as polling brings it, is not full again.
        """
        known, shown = self._books.get(symbol), (bids, asks, timestamp)
        if known is not None and timestamp < known[2]:
            return
        if shown != known:
            self._books[symbol] = shown
            self._depths.pop(symbol, None)
        if bids and asks:
            self._purse.mark(symbol, (exact(bids[0][0]) + exact(asks[0][0])) / 2)
        self._match_book(symbol)

    def on_trade(self, symbol: str, price: Number, quantity: Number, timestamp: datetime) -> None:
        """Fill what a trade of the market fills: resting limit orders, best price first, then oldest first."""
        paid, left, now = exact(price), exact(quantity), self._clock()
        self._purse.mark(symbol, paid)
        resting = [order for order in self._due(symbol, now) if order.resting and order.request.limit_price]
        resting.sort(key=lambda order: -order.request.side.sign * (order.request.limit_price or ZERO))
        for order in resting:
            got = fill_by_trade(order, paid, left, timestamp)
            if got is not None:
                left -= got.quantity
                self._record(order, [got], now)

    def on_bar(
        self,
        symbol: str,
        timestamp_open: datetime,
        open: Number,
        high: Number,
        low: Number,
        close: Number,
        volume: Number,
    ) -> None:
        """Fill what a bar of history fills: orders that had arrived when it opened. Await `settle` before deciding."""
        bar = Bar(timestamp_open, exact(open), exact(high), exact(low), exact(close), exact(volume))
        for order in self._due(symbol, timestamp_open):
            got = fill_by_bar(order, bar, self._terms)
            self._met(order, [got] if got else [], timestamp_open)
        self._purse.mark(symbol, bar.close)

    def halt(self, symbol: str) -> None:
        """Stop trading in a symbol: new orders are rejected, nothing fills, cancels pass."""
        self._halted.add(symbol)

    def resume(self, symbol: str) -> None:
        """End a halt."""
        self._halted.discard(symbol)

    async def settle(self) -> None:
        """Wait until everything that happened so far is durable and reported."""
        while self._writes:
            await asyncio.wait(self._writes)

    def _outlive(self) -> None:
        """Cancel everything: nobody has been heard of for too long."""
        for order in list(self._working.values()):
            if order.committed:
                self._record(order, [], self._clock(), Status.CANCELED, DEAD_MAN)

    def _admit(self, order: Working) -> None:
        self._working[order.request.client_order_id] = order
        self._by_symbol[order.request.symbol].append(order)

    def _dismiss(self, order: Working) -> None:
        del self._working[order.request.client_order_id]
        self._by_symbol[order.request.symbol].remove(order)

    def _match_book(self, symbol: str) -> None:
        now = self._clock()
        for order in self._due(symbol, now):
            depth = self._depth(symbol)
            if not order.resting:
                order.since = depth.timestamp
            self._met(order, depth.take(order), now)

    def _due(self, symbol: str, now: datetime) -> list[Working]:
        """Return the orders a market may fill now, after ending those whose time is over."""
        if symbol in self._halted:
            return []
        due = []
        for order in [one for one in self._by_symbol[symbol] if one.committed]:
            if order.request.time_in_force is TimeInForce.DAY and now.date() > order.active_at.date():
                self._record(order, [], now, Status.EXPIRED, "the day is over")
            elif order.active_at <= now:
                due.append(order)
        return due

    def _met(self, order: Working, got: list[Execution], now: datetime) -> None:
        """Note what meeting the market made of an order."""
        left = order.left - sum((one.quantity for one in got), ZERO)
        if left > 0 and is_immediate(order.request):
            self._record(order, got, now, Status.EXPIRED, "not filled at once")
        elif got:
            self._record(order, got, now)
        elif order.request.limit_price is not None and not order.resting:
            order.resting = True
            self._write(lambda: self._ledger.rest(order.request.client_order_id))

    def _record(
        self, order: Working, got: list[Execution], at: datetime, ends: Status | None = None, reason: str = ""
    ) -> asyncio.Future[tuple[list[BrokerFill], BrokerOrder]]:
        """Book executions and an end: in memory now, on disk soon, reported then."""
        request = order.request
        order.took(got)
        order.resting = request.limit_price is not None
        for one in got:
            self._purse.book(request, one)
        if order.left <= 0 or ends is not None:
            self._dismiss(order)
        booked = self._write(lambda: self._ledger.execute(request.client_order_id, got, at, ends, reason))
        booked.add_done_callback(self._report_booked)
        return booked

    def _report_booked(self, done: asyncio.Future[tuple[list[BrokerFill], BrokerOrder]]) -> None:
        if done.exception() is None:
            fills, order = done.result()
            self._feed.publish(*fills, order)

    def _entered(
        self, done: asyncio.Future[tuple[bool, BrokerOrder]], request: OrderRequest, mine: Working | None
    ) -> None:
        """Let an order work once it is durable; forget it where its id was used before."""
        is_new, order = (False, None) if done.exception() is not None else done.result()
        if is_new and order is not None:
            self._feed.publish(order)
        if mine is not None and not is_new:
            self._dismiss(mine)
        elif mine is not None:
            mine.committed = True
            if request.symbol in self._books:
                self._match_book(request.symbol)

    def _depth(self, symbol: str) -> Depth:
        """Return the symbol's book as exact figures; only made where an order looks at it."""
        if symbol not in self._depths:
            bids, asks, timestamp = self._books[symbol]
            self._depths[symbol] = Depth(_exactly(bids), _exactly(asks), timestamp)
        return self._depths[symbol]

    def _write(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Do something in the ledger's thread, after everything before it; a failure stops the broker."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._writes.add(future)
        future.add_done_callback(self._written)
        return future

    def _written(self, done: asyncio.Future[_T]) -> None:
        self._writes.discard(done)
        error = done.exception()
        if error is not None and not self._broken:
            self._broken = f"{type(error).__name__}: {error}"
            self._feed.publish(Disconnected(f"paper broker: its ledger failed ({self._broken})"))

    async def _read(self, work: Callable[[], _T]) -> _T:
        """Read the ledger after all writes before; raises `TransientError` where it cannot be read."""
        if self._broken:
            raise TransientError(f"paper broker: its ledger failed ({self._broken}); mend the disk and start again")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise TransientError(f"paper broker: its ledger could not be read: {error}") from error


def _exactly(levels: Levels) -> list[tuple[Decimal, Decimal]]:
    return [(exact(price), exact(size)) for price, size in levels]
