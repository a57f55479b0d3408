"""What risk looks at: the limits of an account, its state, and what is known of a market at the moment of deciding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from tasks.errors import InputError
from tasks.orders.order import ZERO, Order


class TradingState(StrEnum):
    """What the account may do."""

    ACTIVE = "active"
    """Everything within the limits."""
    REDUCING = "reducing"
    """Only what brings positions closer to zero."""
    HALTED = "halted"
    """Nothing but cancels; stays until a person clears it."""
    RECONCILING = "reconciling"
    """Nothing but cancels, until broker and journal agree."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an account. Fractions are of equity. Kept in a file whose hash is journaled at every start.

    Attributes:
        max_order_fraction: Largest value of one order.
        max_position_fraction: Largest value of one symbol's position, with everything open or in doubt filled.
        max_gross_fraction: Largest sum of all positions' values, likewise.
        price_collar: How far a limit price may lie from the reference price.
        period_collar: How far an order's price may lie from what the market traded at a period ago.
        collar_period_s: How long ago.
        market_collar: How far a market order may run, where the broker takes it as a limit order; 1 for no bound.
        max_reference_age_s: Older reference prices count as missing.
        orders_per_minute: Orders of the account in any rolling minute.
        symbol_orders_per_minute: The same for one symbol.
        strategy_orders_per_minute: The same for one strategy.
        max_signal_age_s: An older signal is not acted on any more.
        max_day_loss: Loss of the day at which only reducing is left.
        max_losses_in_a_row: Round trips that lost, one after the other, at which only reducing is left.
        max_drawdown: Loss from the highest equity at which trading halts.
        max_doubt_and_rejects: Orders in doubt or rejected within a minute at which trading halts.
        max_cash_difference: How far the broker's cash may be from what the day's fills make of it, at the day's end.
    """

    max_order_fraction: Decimal = Decimal("0.01")
    max_position_fraction: Decimal = Decimal("0.10")
    max_gross_fraction: Decimal = Decimal("0.50")
    price_collar: Decimal = Decimal("0.02")
    period_collar: Decimal = Decimal("0.03")
    collar_period_s: Decimal = Decimal(60)
    market_collar: Decimal = Decimal("0.01")
    max_reference_age_s: Decimal = Decimal(2)
    orders_per_minute: int = 60
    symbol_orders_per_minute: int = 30
    strategy_orders_per_minute: int = 10
    max_signal_age_s: Decimal = Decimal(60)
    max_day_loss: Decimal = Decimal("0.02")
    max_losses_in_a_row: int = 4
    max_drawdown: Decimal = Decimal("0.05")
    max_doubt_and_rejects: int = 3
    max_cash_difference: Decimal = Decimal("0.001")

    def __post_init__(self) -> None:
        """Refuse limits that do not limit.

        Raises:
            InputError: A limit that is not above zero.
        """
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not (isinstance(value, int) or value.is_finite()) or value <= 0:
                raise InputError(f"risk limit {limit.name}: expected a finite number above 0, found {value}")

    @property
    def version(self) -> str:
        """Return a short hash of all limits, the same on every machine."""
        text = json.dumps({name: str(value) for name, value in asdict(self).items()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Market(Struct, frozen=True):
    """What is known of a symbol at the moment of deciding.

    Attributes:
        reference_price: Middle of a valid book or last trade, None where there is none.
        reference_age_s: How old it is.
        valid: Whether the stream vouches for it: no gap, not stale, not crossed.
        quantity_step: Smallest step of a quantity.
        price_step: Smallest step of a price.
        min_notional: Smallest value of an order the broker takes.
        max_quantity: Largest quantity of an order the broker takes, None where it names none.
        period_price: What it traded at a period ago (`tasks.orders.collar`), None where that is not known.
    """

    reference_price: Decimal | None
    reference_age_s: Decimal = ZERO
    valid: bool = True
    quantity_step: Decimal = Decimal("0.00000001")
    price_step: Decimal = Decimal("0.00000001")
    min_notional: Decimal = ZERO
    max_quantity: Decimal | None = None
    period_price: Decimal | None = None


class Parent(Struct, frozen=True):
    """The decision that one or several orders carry out.

    Attributes:
        quantity: What was decided on in all.
        taken: What its other orders filled, and what of them still works.
    """

    quantity: Decimal
    taken: Decimal = ZERO


class Book(Struct, frozen=True):
    """The account at the moment of deciding.

    Attributes:
        state: What it may do.
        equity: Quote asset, None where unknown.
        positions: Signed quantity by symbol.
        prices: Last price by symbol, for exposure.
        orders: Every order that has not ended, and those in doubt.
        recent_orders: Monotonic times of orders of the last minute, with their symbol and strategy.
        day_pnl: Realised and unrealised since the day began, quote asset.
        peak_equity: The highest so far.
        losses_in_a_row: Round trips that lost since the last one that did not.
    """

    state: TradingState
    equity: Decimal | None
    positions: dict[str, Decimal]
    prices: dict[str, Decimal]
    orders: tuple[Order, ...] = ()
    recent_orders: tuple[tuple[float, str, str], ...] = ()
    day_pnl: Decimal = ZERO
    peak_equity: Decimal = ZERO
    losses_in_a_row: int = 0


class Verdict(Struct, frozen=True):
    """What risk says, for the journal: every control that was asked, and the first that refused."""

    passed: bool
    refused_by: str = ""
    reason: str = ""
    checked: tuple[str, ...] = ()
