"""What a paper order gets from a market: from a book level by level, from a trade, from a bar. Pure, all `Decimal`.

Three rules keep it from flattering: nothing fills before the order has arrived, what one order took from a book is gone
for the next, and a resting order fills at its own price only where the market traded through it, or by half of a trade
at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from tasks.errors import InputError
from tasks.orders.order import ZERO, OrderRequest, Side, TimeInForce

Number = Decimal | float | int | str

#: Share of a trade at our price that is ours: others were in the queue before.
_QUEUE_SHARE = Decimal("0.5")
_BPS = Decimal(10_000)


def exact(value: Number) -> Decimal:
    """Return a figure as the vendor wrote it: floats by their shortest spelling, never by their binary expansion."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


@dataclass(frozen=True, slots=True)
class Terms:
    """What trading on paper costs. Nothing defaults to free.

    Attributes:
        fee_bps: On the value of what is taken from a book, or bought or sold at a bar's open.
        maker_fee_bps: On the value of what a resting order gets.
        slippage_bps: How far a bar's open moves against a market order. Books need none: their depth is real.
        latency_s: How long an order takes to arrive.
        max_volume_share: Largest share of a bar's volume that one order gets; None for no bound, as in the sweep.
        initial_cash: Of a new account, quote asset.
        allow_short: Whether more may be sold than is held.
    """

    fee_bps: Decimal = Decimal(10)
    maker_fee_bps: Decimal = Decimal(10)
    slippage_bps: Decimal = Decimal(2)
    latency_s: Decimal = Decimal("0.05")
    max_volume_share: Decimal | None = None
    initial_cash: Decimal = Decimal(100_000)
    allow_short: bool = True

    def __post_init__(self) -> None:
        """Refuse terms no market has.

        Raises:
            InputError: A figure below zero or not finite, or no cash; makers alone may be paid.
        """
        for name in ("fee_bps", "slippage_bps", "latency_s", "initial_cash"):
            value = getattr(self, name)
            if not (value.is_finite() and value >= 0):
                raise InputError(f"paper terms: expected {name} of 0 or more, found {value}")
        if not self.maker_fee_bps.is_finite():
            raise InputError(f"paper terms: expected a finite maker_fee_bps, found {self.maker_fee_bps}")

    def fee(self, execution: Execution) -> Decimal:
        """Return the fee of an execution, on the price it was made at."""
        rate = self.maker_fee_bps if execution.maker else self.fee_bps
        return execution.price * execution.quantity * rate / _BPS


@dataclass(frozen=True, slots=True)
class Execution:
    """A price and a quantity; `maker` where the order was resting."""

    price: Decimal
    quantity: Decimal
    maker: bool = False


@dataclass(slots=True, eq=False)
class Working:
    """An order that can still fill.

    Attributes:
        request: What was asked.
        left: What is not filled yet.
        active_at: When it has arrived; nothing from before can fill it.
        resting: It has met a market once and what is left waits at its price.
        since: When the book was made at which it came to rest, by the market's clock; None where that was no book.
        committed: It is in the ledger; nothing fills before.
    """

    request: OrderRequest
    left: Decimal
    active_at: datetime
    resting: bool = False
    committed: bool = False
    since: datetime | None = None

    def took(self, executions: Iterable[Execution]) -> None:
        """Take executions off what is left."""
        self.left -= sum((one.quantity for one in executions), ZERO)

    def accepts(self, price: Decimal) -> bool:
        """Return whether the limit allows a price; a market order takes any."""
        limit = self.request.limit_price
        return limit is None or (price <= limit if self.request.side is Side.BUY else price >= limit)


@dataclass(slots=True)
class Depth:
    """A snapshot of a book, thinned by what our own orders took from it.

    Attributes:
        bids: Price and size, best first.
        asks: The same.
        timestamp: The market's.
    """

    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]
    timestamp: datetime
    _taken: dict[tuple[Side, Decimal], Decimal] = field(default_factory=dict)

    def take(self, order: Working) -> list[Execution]:
        """Return what an order gets from the book now, and thin the book by it.

        A resting order pays its own price: it was there first. Fill or kill gets everything or nothing.
        """
        side, left, gets = order.request.side, order.left, []
        for price, size in self.asks if side is Side.BUY else self.bids:
            free = size - self._taken.get((side, price), ZERO)
            if left <= 0 or not order.accepts(price):
                break
            if free > 0:
                paid = order.request.limit_price if order.resting else None
                gets.append((price, Execution(paid or price, min(left, free), order.resting)))
                left -= min(left, free)
        if order.request.time_in_force is TimeInForce.FOK and left > 0:
            return []
        for price, one in gets:
            self._taken[side, price] = self._taken.get((side, price), ZERO) + one.quantity
        return [one for _, one in gets]


def fill_by_trade(order: Working, price: Decimal, quantity: Decimal, timestamp: datetime) -> Execution | None:
    """Return what a resting limit order gets of a trade of the market: all of it through our price, half at it.

    A trade from before the order came to rest, such as one that was fetched after a gap, gives nothing.
    """
    limit = order.request.limit_price
    if limit is None or not order.resting or not order.accepts(price):
        return None
    if order.since is not None and timestamp < order.since:
        return None
    share = quantity * _QUEUE_SHARE if price == limit else quantity
    got = min(order.left, share)
    return Execution(limit, got, maker=True) if got > 0 else None


@dataclass(frozen=True, slots=True)
class Bar:
    """A closed bar of history."""

    timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def fill_by_bar(order: Working, bar: Bar, terms: Terms) -> Execution | None:
    """Return what an order gets of a bar that opened after it had arrived.

    Market orders fill at the open moved against us, limit orders at the open where that is as good, else at their
    price where the bar went through it. A bar that only touches the price fills nothing.
    """
    share = terms.max_volume_share
    quantity = order.left if share is None else min(order.left, bar.volume * share)
    if quantity <= 0 or (order.request.time_in_force is TimeInForce.FOK and quantity < order.left):
        return None
    side, limit = order.request.side, order.request.limit_price
    moved = bar.open * (1 + side.sign * terms.slippage_bps / _BPS)
    if limit is None:
        return Execution(moved, quantity)
    if order.accepts(bar.open) and not order.resting:
        return Execution(moved if order.accepts(moved) else limit, quantity)
    through = bar.low < limit if side is Side.BUY else bar.high > limit
    return Execution(limit, quantity, maker=True) if through and not is_immediate(order.request) else None


def is_immediate(request: OrderRequest) -> bool:
    """Return whether what a first meeting with the market leaves unfilled expires."""
    return request.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
