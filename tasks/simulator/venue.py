"""The matching engine: orders against the simulated book and the trades that pass by.

Taking orders execute level by level against the book that stands, which thins as it is taken until the next book
stands. Resting orders execute against later trades, which they share (`tasks.simulator.sharing`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from tasks.simulator.instruments import Instrument
from tasks.simulator.ledger import ZERO, Account, Fill, Order, changed
from tasks.simulator.quotes import Quotes
from tasks.simulator.sharing import passed, shares
from tasks.simulator.tape import DEPTH_LEVELS, Tape

_OPPOSITE = {"buy": "asks", "sell": "bids"}

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


@dataclass(slots=True)
class _Level:
    """A level of the standing book and what is left of it."""

    price: Decimal
    left: Decimal


@dataclass(slots=True)
class _Waiting:
    """An order that rests in the book, its account's key, and the time up to which trades have passed it."""

    key: str
    order: Order
    seen_ms: int


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
        self._resting: dict[str, _Waiting] = {}  # by order id, oldest first
        self._books: dict[Instrument, tuple[int, dict[str, list[_Level]]]] = {}  # with the time from which each stands
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
        reachable = sum((level.left for level in levels), ZERO)
        if order.time_in_force != "fok" or reachable >= order.quantity:
            for level in levels:
                if not order.left:
                    break
                quantity = min(order.left, level.left)
                level.left -= quantity
                order = self._execute(key, order, level.price, quantity, maker=False, now_ms=now)
        if order.open and (order.kind == "market" or order.time_in_force != "gtc"):
            order = self._publish(key, changed(order, status="expired", updated_ms=now))
        if order.open:
            self._resting[order.order_id] = _Waiting(key, order, now)
        return order

    def cancel(self, key: str, order: Order) -> Order:
        """Cancel what is left of an open order and return it; a terminal one is returned as it is."""
        self.advance()
        standing = self.account(key).order(order.order_id)
        if standing is None or not standing.open:
            return standing or order
        self._resting.pop(order.order_id, None)
        return self._publish(key, changed(standing, status="canceled", updated_ms=self.quotes.market.clock()))

    def fill_late(self, key: str, order: Order) -> None:
        """Execute half of what a cancelled order had left, at its price; it stays cancelled."""
        lot = Decimal(1).scaleb(-order.item.lot_decimals)
        quantity = max((order.left / 2).quantize(lot, rounding="ROUND_DOWN"), min(lot, order.left))
        if quantity and order.price is not None:
            now = self.quotes.market.clock()
            self._execute(key, order, order.price, quantity, maker=True, now_ms=now, status=order.status)

    def advance(self) -> None:
        """Match resting orders against the trades since the last look; each trade is given out once."""
        now = self.quotes.market.clock()
        late = [one for one in self._resting.values() if one.seen_ms < now]
        for item in dict.fromkeys(one.order.item for one in late):
            self._match([one for one in late if one.order.item == item], self.quotes.tape(item), now)

    def _match(self, waiting: list[_Waiting], tape: Tape, now: int) -> None:
        """Give the trades of an instrument to its orders, to each those that came after it."""
        since = min(one.seen_ms for one in waiting)
        for trade in passed(tape, [one.order for one in waiting], since, now):
            there = [one.order for one in waiting if one.order.open and one.seen_ms < trade.at_ms]
            for order, price, quantity in shares(there, trade):
                one = self._resting[order.order_id]
                one.order = self._execute(one.key, order, price, quantity, maker=True, now_ms=trade.at_ms)
        for one in waiting:
            one.seen_ms = now
            if not one.order.open:
                del self._resting[one.order.order_id]

    @property
    def resting(self) -> int:
        """How many orders wait in the book."""
        return len(self._resting)

    def cost(self, ticket: Ticket) -> Decimal:
        """Return what an order takes at most, fees aside: at its limit, or at the levels a market order walks now."""
        if ticket.price is not None:
            return ticket.price * ticket.quantity
        left, cost = ticket.quantity, ZERO
        for level in self._book(ticket.item, self.quotes.market.clock())[_OPPOSITE[ticket.side]]:
            taken = min(left, level.left)
            left, cost = left - taken, cost + taken * level.price
        return cost

    def _execute(
        self,
        key: str,
        order: Order,
        price: Decimal,
        quantity: Decimal,
        *,
        maker: bool,
        now_ms: int,
        status: str | None = None,
    ) -> Order:
        filled = order.filled + quantity
        status = status or ("filled" if filled == order.quantity else "partially_filled")
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

    def _book(self, item: Instrument, now_ms: int) -> dict[str, list[_Level]]:
        """Return the book that stands, less what was taken from it; the next one to stand is full again."""
        stamp = self.quotes.book_time(item, now_ms)
        known = self._books.get(item)
        if known is None or known[0] != stamp:
            book = self.quotes.depth_at(item, now_ms, DEPTH_LEVELS)
            sides = {
                side: [_Level(Decimal(price), Decimal(size)) for price, size in book[side]] for side in ("bids", "asks")
            }
            known = self._books[item] = (stamp, sides)
        return known[1]

    def _levels(self, order: Order, now_ms: int) -> list[_Level]:
        """Return the levels this order may take, best first."""
        levels = []
        for level in self._book(order.item, now_ms)[_OPPOSITE[order.side]]:
            limit = order.price
            if limit is not None and (level.price > limit if order.side == "buy" else level.price < limit):
                break
            if level.left > 0:
                levels.append(level)
        return levels
