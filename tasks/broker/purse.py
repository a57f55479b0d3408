"""What an account on paper owns right now, and whether it can pay for one more order; the ledger keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from tasks.broker.matching import Execution, Terms, Working
from tasks.orders.order import ZERO, OrderRequest, Side


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held of a symbol, and the price it last traded at for us."""

    quantity: Decimal
    price: Decimal


class Purse:
    """Cash, holdings and the last price of every symbol.

    Args:
        terms: What trading costs.
        cash: Quote asset.
        held: What is held by symbol.
    """

    def __init__(self, terms: Terms, cash: Decimal, held: dict[str, Holding]) -> None:
        self._terms = terms
        self._cash = cash
        self._held = dict(held)
        self._marks = {symbol: one.price for symbol, one in held.items()}

    def mark(self, symbol: str, price: Decimal) -> None:
        """Note what a symbol is worth."""
        self._marks[symbol] = price

    def book(self, request: OrderRequest, execution: Execution) -> None:
        """Move cash and holding by an execution."""
        held, sign = self._quantity(request.symbol), request.side.sign
        self._held[request.symbol] = Holding(held + sign * execution.quantity, execution.price)
        self._cash -= sign * execution.quantity * execution.price + self._terms.fee(execution)

    def worth(self, held: dict[str, Holding]) -> Decimal:
        """Return what holdings are worth at the last known prices."""
        return sum((one.quantity * self._marks.get(symbol, one.price) for symbol, one in held.items()), ZERO)

    def available(self, working: Iterable[Working]) -> Decimal:
        """Return the cash that working buys do not claim."""
        claimed = ZERO
        for order in working:
            if order.request.side is Side.BUY:
                price = order.request.limit_price or self._marks.get(order.request.symbol, ZERO)
                claimed += self._cost(order.left, price)
        return self._cash - claimed

    def refusal(self, request: OrderRequest, working: Iterable[Working]) -> str:
        """Return why the account cannot bear an order, empty where it can.

        What is held is counted as though the working orders of the same side had filled. Cash is asked for by buys
        that open a position, at the limit or the last price; while no price is known it is not. Fills may take it a
        little below zero: prices move between order and fill.
        """
        sign, working = request.side.sign, list(working)
        ours = (one for one in working if one.request.symbol == request.symbol and one.request.side is request.side)
        held = self._quantity(request.symbol) + sign * sum((one.left for one in ours), ZERO)
        after = held + sign * request.quantity
        if request.reduce_only and (held * sign >= 0 or held * after < 0):
            return f"reduce only: expected at most the position of {held} against it, found {request.quantity}"
        if request.side is Side.SELL:
            short = after < 0 and not self._terms.allow_short
            return f"no short selling: expected at most {held} to sell, found {request.quantity}" if short else ""
        price = request.limit_price or self._marks.get(request.symbol)
        if price is None or after <= 0:
            return ""
        cost, available = self._cost(request.quantity, price), self.available(working)
        return f"insufficient cash: expected {cost}, found {available}" if cost > available else ""

    def _quantity(self, symbol: str) -> Decimal:
        return self._held[symbol].quantity if symbol in self._held else ZERO

    def _cost(self, quantity: Decimal, price: Decimal) -> Decimal:
        return price * quantity + self._terms.fee(Execution(price, quantity))
