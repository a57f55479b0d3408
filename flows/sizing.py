"""How large an order is: the sweep's own rule, in exact decimals and whole steps of the market. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from tasks.errors import InputError
from tasks.orders.order import ZERO
from tasks.sweep.costs import Costs

#: Rules of a sweep that closed bars and market orders are enough for.
_FOLLOWED = {"fee_bps", "fixed_fee", "slippage_bps", "direction", "initial_cash", "fraction"}
_BPS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class Sizing:
    """How large an order is, and in which steps.

    Attributes:
        costs: The sweep's own rules: direction, share of the cash, and the fee and slippage an entry leaves room for.
        quantity: Base asset of every position; None for the share of `costs`.
        quantity_step: Smallest step of a quantity; orders are rounded towards nothing.
        min_notional: Smallest value of an order; smaller ones are not asked for.
    """

    costs: Costs
    quantity: Decimal | None = None
    quantity_step: Decimal = Decimal("0.00000001")
    min_notional: Decimal = ZERO

    def __post_init__(self) -> None:
        """Refuse rules that only the sweep knows.

        Raises:
            InputError: A rule that needs more than closed bars and market orders.
        """
        found = sorted(set(self.costs.model_dump(exclude_defaults=True)) - _FOLLOWED)
        if found:
            raise InputError(
                f"signals: expected rules that can be followed at bar closes with market orders, found {found}; "
                "leave them out, or put a trailing exit into the strategy itself as donchian_breakout does"
            )
        if self.quantity_step <= 0 or (self.quantity is not None and self.quantity <= 0):
            raise InputError(f"signals: expected a quantity and a step above 0, found {self}")

    def side_of(self, view: int) -> int:
        """Return the side of the market a view asks for: 1 long, 0 flat, -1 short; see `tasks.strategies.strategy`."""
        if self.costs.direction == "both":
            return view
        return max(view, 0) if self.costs.direction == "long" else min(view, 0)

    def order(self, side: int, position: Decimal, equity: Decimal | None, price: Decimal | None) -> Decimal | None:
        """Return the signed quantity that brings a position to a side, rounded; None where it cannot be known.

        Args:
            side: 1 long, 0 flat, -1 short.
            position: Held now.
            equity: What the account is worth at `price`.
            price: What the symbol trades at, before slippage.
        """
        wanted = -position if side == 0 else self._entry(side, position, equity, price)
        if wanted is None:
            return None
        steps = (wanted / self.quantity_step).to_integral_value(ROUND_DOWN)
        rounded = steps * self.quantity_step
        return ZERO if price is not None and abs(rounded) * price < self.min_notional else rounded

    def _entry(self, side: int, position: Decimal, equity: Decimal | None, price: Decimal | None) -> Decimal | None:
        if self.quantity is not None:
            return side * self.quantity - position
        if equity is None or price is None or price <= 0:
            return None
        costs, cash = self.costs, equity - position * price
        fee, fixed = _exact(costs.fee_bps) / _BPS, _exact(costs.fixed_fee)
        paid = price * (1 + side * _exact(costs.slippage_bps) / _BPS)
        if position * side < 0:  # a reversal is one order, and `Costs` allows it with all cash only
            freed = abs(position) * paid * (1 - fee) if side < 0 else ZERO
            spent = (cash + freed - fixed) / (1 + fee) / paid
            return spent if side > 0 else -position - spent
        share = _exact(costs.fraction)
        spent = share * equity - fixed if side > 0 else share * (equity - fixed)
        total = spent / (1 + fee) / paid
        return side * max(total - abs(position), ZERO)


def _exact(value: float) -> Decimal:
    return Decimal(str(value))
