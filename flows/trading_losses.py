"""Losing round trips in a row: a strategy that only loses is stopped before the day's loss is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec.structs import replace

from tasks.orders.order import ZERO, Fill, Order
from tasks.orders.position import Position

#: What is left of a position counts as nothing: fees taken in kind leave less than a step that nobody can sell.
_DUST = Decimal("0.01")


class LossStreak:
    """Round trips of every symbol, from flat to flat or through zero, each judged after its fees.

    Args:
        orders: Whose fills an earlier process counted.

    Attributes:
        in_a_row: Trips that lost since the last one that did not.
    """

    def __init__(self, orders: Iterable[Order] = ()) -> None:
        self.in_a_row = 0
        self._positions: dict[str, Position] = {}
        self._worth_before: dict[str, Decimal] = {}
        self._counted: dict[str, Decimal] = {}
        for order in orders:
            self.follow(order)

    def follow(self, order: Order) -> bool:
        """Count an order's new fills; return whether a trip ended with a loss."""
        if not order.fills:
            return False
        identifier, before = order.request.client_order_id, self.in_a_row
        counted = self._counted.get(identifier, ZERO)
        for fill in _beyond(order.fills, counted):
            self._take(order, fill)
        self._counted[identifier] = max(counted, order.filled_quantity)
        return self.in_a_row > before

    def _take(self, order: Order, fill: Fill) -> None:
        symbol = order.request.symbol
        before = self._positions.get(symbol, Position())
        after = self._positions[symbol] = before.filled(order.request.side, fill)
        if _is_over(before, after):
            earned = after.realised - after.fees
            lost = earned < self._worth_before.get(symbol, ZERO)
            self._worth_before[symbol] = earned
            self.in_a_row = self.in_a_row + 1 if lost else 0


def _beyond(fills: Iterable[Fill], counted: Decimal) -> Iterator[Fill]:
    """Yield what fills make beyond a quantity: trades that take a made-up fill's place were counted with it."""
    total = ZERO
    for fill in fills:
        total += fill.quantity
        new = min(total - counted, fill.quantity)
        if new == fill.quantity:
            yield fill
        elif new > 0:
            yield replace(fill, quantity=new, fee=fill.fee * new / fill.quantity)


def _is_over(before: Position, after: Position) -> bool:
    """Return whether a fill ended a round trip: flat but for dust, or through zero."""
    turned = before.quantity * after.quantity <= 0
    return bool(before.quantity) and (turned or abs(after.quantity) <= abs(before.quantity) * _DUST)
