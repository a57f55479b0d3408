"""Who gets what of the trades that pass by: resting orders, best price first, then oldest. Pure.

A trade is given out once: in full where the market trades through an order's price, by half of what is left of it where
it trades at that price, since others were in the queue before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal

import numpy as np

from tasks.simulator.ledger import ZERO, Order
from tasks.simulator.tape import Tape


@dataclass(frozen=True, slots=True)
class Passed:
    """A trade of the market: its price and size, the smallest size there is, and when it happened."""

    price: Decimal
    size: Decimal
    lot: Decimal
    at_ms: int


def passed(tape: Tape, orders: Sequence[Order], after_ms: int, until_ms: int) -> Iterator[Passed]:
    """Yield the trades in ``(after_ms, until_ms]`` that are at the price of one of some orders, or better."""
    bids = [_price(order) for order in orders if order.side == "buy"]
    asks = [_price(order) for order in orders if order.side == "sell"]
    decimals = tape.item.price_decimals
    most = int(max(bids, default=ZERO).scaleb(decimals).to_integral_value(ROUND_FLOOR))
    least = int(min(asks).scaleb(decimals).to_integral_value(ROUND_CEILING)) if asks else np.iinfo(np.int64).max
    for index in range(max(tape.index_at(after_ms), 0), tape.index_at(until_ms) + 1):
        bar = tape.bar(index)
        first, stop = np.searchsorted(bar.times, (after_ms, until_ms), side="right")
        prices, lot = bar.prices[first:stop], Decimal(1).scaleb(-bar.lot_decimals)
        for number in first + np.flatnonzero((prices <= most) | (prices >= least)):
            price = Decimal(int(bar.prices[number])).scaleb(-decimals)
            yield Passed(price, int(bar.quantities[number]) * lot, lot, int(bar.times[number]))


def shares(orders: Iterable[Order], trade: Passed) -> Iterator[tuple[Order, Decimal, Decimal]]:
    """Yield the orders that get something of a trade, at what price, and how much.

    Args:
        orders: Those that rest, oldest first.
        trade: What passes them.
    """
    left = trade.size
    for price, order in sorted(((_price(order), order) for order in orders), key=_rank):
        if trade.price > price if order.side == "buy" else trade.price < price:
            continue
        most = (left / 2).quantize(trade.lot, ROUND_DOWN) if trade.price == price else left
        quantity = min(order.left, most)
        if quantity > 0:
            left -= quantity
            yield order, price, quantity


def _rank(priced: tuple[Decimal, Order]) -> Decimal:
    price, order = priced
    return -price if order.side == "buy" else price


def _price(order: Order) -> Decimal:
    assert order.price is not None  # noqa: S101  (a market order never rests)
    return order.price
