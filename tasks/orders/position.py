"""A position as the fold of its fills: quantity, average price, realised profit, fees. Nothing else ever moves it.

The average-price method: opening fills average in, closing fills realise against the average and leave it as it is,
a fill through zero closes the old position and opens the new one at its own price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        """Return the position after one more fill; a fee taken in kind leaves the average price as it is."""
        after = self._traded(side, fill)
        if not fill.base_fee:
            return after
        left = after.quantity - fill.base_fee
        return Position(left, after.average_price or fill.price, after.realised, after.fees)

    def _traded(self, side: Side, fill: Fill) -> Position:
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


def effect(side: Side, fills: Sequence[Fill]) -> tuple[Decimal, Decimal, Decimal]:
    """Return what fills of one side and their fees did to the position, to the cash, and the fees' worth."""
    held = paid = fees = ZERO
    for fill in fills:
        held += fill.quantity
        paid += fill.price * fill.quantity
        fees += fill.fee
    taken = [fill for fill in fills if fill.base_fee]
    in_kind = sum((fill.base_fee for fill in taken if fill.base_fee), ZERO)
    in_cash = fees - sum((fill.base_fee * fill.price for fill in taken if fill.base_fee), ZERO)
    return side.sign * held - in_kind, -side.sign * paid - in_cash, fees


def fold(fills: Iterable[tuple[Side, Fill]]) -> Position:
    """Return the position that fills make, in their order."""
    position = Position()
    for side, fill in fills:
        position = position.filled(side, fill)
    return position
