"""A position as the fold of its fills: quantity, average price, realised profit, fees. Nothing else ever moves it.

The average-price method: opening fills average in, closing fills realise against the average and leave it as it is,
a fill through zero closes the old position and opens the new one at its own price.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from tasks.orders.order import ZERO, Fill, Side


@dataclass(frozen=True, slots=True)
class Position:
    """What is held of one symbol in one account.

    Attributes:
        quantity: Base asset, negative for a short.
        average_price: What it was opened at, per unit; zero when flat.
        realised: Profit of what was closed, quote asset, before fees.
        fees: Paid so far, quote asset.
    """

    quantity: Decimal = ZERO
    average_price: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Decimal = ZERO

    def filled(self, side: Side, fill: Fill) -> Position:
        """Return the position after one more fill."""
        signed, fees = side.sign * fill.quantity, self.fees + fill.fee
        total = self.quantity + signed
        if self.quantity * signed >= 0:
            cost = self.average_price * abs(self.quantity) + fill.price * fill.quantity
            return Position(total, cost / abs(total), self.realised, fees)
        closed = min(abs(self.quantity), fill.quantity)
        direction = 1 if self.quantity > 0 else -1
        realised = self.realised + direction * closed * (fill.price - self.average_price)
        average = ZERO if total == 0 else self.average_price if total * self.quantity > 0 else fill.price
        return Position(total, average, realised, fees)

    def unrealised(self, price: Decimal) -> Decimal:
        """Return the profit of closing all of it at `price`, before fees."""
        return self.quantity * (price - self.average_price)

    def exposure(self, price: Decimal) -> Decimal:
        """Return what it is worth at `price`, quote asset, always ≥ 0."""
        return abs(self.quantity) * price


def fold(fills: Iterable[tuple[Side, Fill]]) -> Position:
    """Return the position that fills make, in their order."""
    position = Position()
    for side, fill in fills:
        position = position.filled(side, fill)
    return position
