"""The matching engine: orders against the simulated book and the trades that pass by.

Taking orders execute level by level against the book that stands, which thins as it is taken until the next book
stands. Resting orders execute against later trades: fully where the market trades through their price, by half of the
trade where it trades at it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from tasks.simulator.instruments import Instrument
from tasks.simulator.ledger import ZERO, Account, Fill, Order, changed
from tasks.simulator.quotes import Quotes
from tasks.simulator.tape import DEPTH_LEVELS

Told = Callable[[str, Order | Fill], None]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a client asks for, already checked for shape.

    Attributes: as in `Order`.
    """

    client_order_id: str
    item: Instrument
    side: str
    kind: str
    time_in_force: str
    quantity: Decimal
    price: Decimal | None


class Venue:
    """Accounts and their orders, in memory for as long as the process lives.

    Args:
        quotes: The market.
        cash: What each account starts with.
        maker_fee: Fraction of the notional.
        taker_fee: Fraction of the notional.

    Attributes:
        listeners: Called with the account's key and each changed order or new fill, in order.
    """

    def __init__(
        self,
        quotes: Quotes,
        *,
        cash: Decimal = Decimal(1_000_000),
        maker_fee: Decimal = Decimal("0.0002"),
        taker_fee: Decimal = Decimal("0.001"),
    ) -> None:
        self.quotes = quotes
        self.listeners: list[Told] = []
        self._cash = cash
        self._fees = {True: maker_fee, False: taker_fee}
        self._accounts: dict[str, Account] = {}
        self._resting: dict[str, tuple[str, int]] = {}  # order id → account key and time up to which trades were seen
        self._taken: dict[tuple[Instrument, int, str], dict[Decimal, Decimal]] = {}
        self._numbers = itertools.count(1)

    def account(self, key: str) -> Account:
        """Return the account of a key; a new one has the starting cash."""
        return self._accounts.setdefault(key, Account(self._cash))

    @property
    def accounts(self) -> dict[str, Account]:
        """Every account that ever asked for anything."""
        return dict(self._accounts)

    def place(self, key: str, ticket: Ticket) -> Order:
        """Take an order, match it, and let the rest wait where it may."""
        now = self.quotes.market.clock()
        order = Order(
            order_id=str(next(self._numbers)),
            client_order_id=ticket.client_order_id,
            item=ticket.item,
            side=ticket.side,
            kind=ticket.kind,
            time_in_force=ticket.time_in_force,
            quantity=ticket.quantity,
            price=ticket.price,
            status="new",
            filled=ZERO,
            cost=ZERO,
            created_ms=now,
            updated_ms=now,
        )
        self._publish(key, order)
        levels = self._levels(order, now)
        reachable = sum((size for _, size in levels), ZERO)
        if order.time_in_force != "fok" or reachable >= order.quantity:
            for price, size in levels:
                if not order.left:
                    break
                quantity = min(order.left, size)
                self._taken[self._side_of(order, now)][price] += quantity
                order = self._execute(key, order, price, quantity, maker=False, now_ms=now)
        if order.open and (order.kind == "market" or order.time_in_force != "gtc"):
            order = self._publish(key, changed(order, status="expired", updated_ms=now))
        if order.open:
            self._resting[order.order_id] = (key, now)
        return order

    def cancel(self, key: str, order: Order) -> Order:
        """Cancel what is left of an open order and return it; a terminal one is returned as it is."""
        self.advance()
        standing = self.account(key).order(order.order_id)
        if standing is None or not standing.open:
            return standing or order
        self._resting.pop(order.order_id, None)
        return self._publish(key, changed(standing, status="canceled", updated_ms=self.quotes.market.clock()))

    def advance(self) -> None:
        """Match resting orders against the trades since the last look."""
        now = self.quotes.market.clock()
        for order_id, (key, seen_ms) in tuple(self._resting.items()):
            order = self.account(key).order(order_id)
            if order is None or now <= seen_ms:
                continue
            for price, size, moment in self._passing(order, seen_ms, now):
                quantity = min(order.left, size)
                if quantity > 0:
                    order = self._execute(key, order, price, quantity, maker=True, now_ms=moment)
            self._resting[order_id] = (key, now)
            if not order.open:
                del self._resting[order_id]

    @property
    def resting(self) -> int:
        """How many orders wait in the book."""
        return len(self._resting)

    def reference_price(self, item: Instrument, side: str) -> Decimal:
        """Return the best price an order of that side could take now."""
        book = self.quotes.depth_at(item, self.quotes.market.clock(), 1)
        levels = book["asks" if side == "buy" else "bids"]
        return Decimal(levels[0][0]) if levels else ZERO

    def _execute(self, key: str, order: Order, price: Decimal, quantity: Decimal, *, maker: bool, now_ms: int) -> Order:
        filled = order.filled + quantity
        status = "filled" if filled == order.quantity else "partially_filled"
        order = changed(order, filled=filled, cost=order.cost + price * quantity, status=status, updated_ms=now_ms)
        fee = price * quantity * self._fees[maker]
        fill = Fill(f"t{next(self._numbers)}", order, price, quantity, fee, maker, now_ms)
        self.account(key).book(fill)
        self._tell(key, fill)
        return self._publish(key, order)

    def _publish(self, key: str, order: Order) -> Order:
        self.account(key).record(order, time.monotonic())
        self._tell(key, order)
        return order

    def _tell(self, key: str, news: Order | Fill) -> None:
        for listener in self.listeners:
            listener(key, news)

    def _side_of(self, order: Order, now_ms: int) -> tuple[Instrument, int, str]:
        """Return the key of what was taken from the book's side that this order takes from, at the book standing."""
        stamp = self.quotes.depth_at(order.item, now_ms, 1)["timestamp"]
        side = (order.item, stamp, "asks" if order.side == "buy" else "bids")
        if side not in self._taken:
            self._taken = {known: sizes for known, sizes in self._taken.items() if known[0] != order.item}
            self._taken |= {(order.item, stamp, name): _Sizes() for name in ("asks", "bids")}
        return side

    def _levels(self, order: Order, now_ms: int) -> list[tuple[Decimal, Decimal]]:
        """Return price and size of the levels this order may take, best first."""
        side = self._side_of(order, now_ms)
        levels = []
        for text, size_text in self.quotes.depth_at(order.item, now_ms, DEPTH_LEVELS)[side[2]]:
            price = Decimal(text)
            if order.price is not None and (price > order.price if order.side == "buy" else price < order.price):
                break
            left = Decimal(size_text) - self._taken[side][price]
            if left > 0:
                levels.append((price, left))
        return levels

    def _passing(self, order: Order, after_ms: int, until_ms: int) -> list[tuple[Decimal, Decimal, int]]:
        """Return price, size and time of what a resting order gets out of the trades in ``(after_ms, until_ms]``."""
        if order.price is None:
            return []
        tape, item = self.quotes.tape(order.item), order.item
        found = []
        for index in range(max(tape.index_at(after_ms), 0), tape.index_at(until_ms) + 1):
            bar = tape.bar(index)
            first, stop = np.searchsorted(bar.times, (after_ms, until_ms), side="right")
            for number in range(int(first), int(stop)):
                price = Decimal(int(bar.prices[number])).scaleb(-item.price_decimals)
                size = Decimal(int(bar.quantities[number])).scaleb(-bar.lot_decimals)
                through = price < order.price if order.side == "buy" else price > order.price
                if through or price == order.price:
                    lot = Decimal(1).scaleb(-bar.lot_decimals)
                    share = size if through else (size / 2).quantize(lot, rounding="ROUND_DOWN")
                    found.append((order.price, share, int(bar.times[number])))
        return found


class _Sizes(dict[Decimal, Decimal]):
    """Sizes by price; what was never taken is zero."""

    def __missing__(self, price: Decimal) -> Decimal:
        return ZERO
