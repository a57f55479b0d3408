"""From closed bars to proposals: the same strategy function as research, one bar at a time. Pure; time is an argument.

The signal function runs over everything that is remembered, exactly as the sweep runs it over its sample, and only the
newest bar's flags are acted on. Indicators and signal functions may depend on their whole path (Wilder's averages, a
trailing exit), so that nothing is cut to a short tail: decisions equal the sweep's bar for bar where the history begins
where the sweep's bars begin, and as closely as the strategy's `warm_up` promises where it begins later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

import numpy as np
import polars as pl
import structlog
from pydantic import ValidationError

from flows.trading_proposal import Proposal
from lake.schema import as_bars
from tasks.errors import InputError
from tasks.orders.identity import signal_key
from tasks.orders.order import ZERO, Side
from tasks.strategies.registry import get
from tasks.strategies.strategy import Params, Strategy, bar_matrix
from tasks.sweep.costs import Costs
from tasks.sweep.grid import Grid

log = structlog.get_logger("flows.signals")

#: Bars that are remembered; beyond them the older half is forgotten. A year of minutes takes about 20 ms a bar.
MOST_BARS = 500_000
#: Rules of a sweep that closed bars and market orders are enough for.
_FOLLOWED = {"fee_bps", "fixed_fee", "slippage_bps", "direction", "initial_cash", "fraction"}
_BPS = Decimal(10_000)
#: Pieces that memory may lie in: joining them on every bar costs more than reading a few.
_CHUNKS = 64
_TARGETS = {1: "long", 0: "flat", -1: "short"}


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


@dataclass(frozen=True, slots=True)
class Decision:
    """What a closed bar led to, for whoever has to explain it.

    Attributes:
        timestamp: The newest bar's open.
        view: Of that bar: 1 bullish, -1 bearish, 0 neither.
        side: The side of the market the strategy wants, by the last view there was; None before the first.
        decided_on: The bar of that last view.
        position: Held at the time.
        equity: Of the account at the time.
        price: At the time.
        at: When it was decided.
        bars: How many bars it was decided from.
        proposal: What is asked for, None for nothing.
    """

    timestamp: datetime
    view: int
    side: int | None
    decided_on: datetime | None
    position: Decimal
    equity: Decimal | None
    price: Decimal | None
    at: datetime
    bars: int
    proposal: Proposal | None = None


class StrategyDriver:
    """One strategy on one symbol, fed by bars as they close.

    A fresh view asks for an order where the position is not on the side it wants. What opens a position is asked for
    once; a late or missed signal opens nothing. What closes one is asked for again at each close for as long as nothing
    of it was filled. A position that came to rest beside its target (partly filled, rounded, paid in fees) is left
    alone until the next view.

    Args:
        strategy_name: Name in `tasks.strategies`.
        params: Its parameters; the strategy's defaults for those left out.
        symbol: In the broker's spelling.
        interval: Length of a bar.
        sizing: How large orders are.
        history: Bars before the first one that is decided on; at least `warm_up` of them, or nothing is decided before
            there are as many.

    Attributes:
        warm_up: Bars the strategy needs before its signals can be trusted.
        last: What the newest bar led to, None before the first.

    Raises:
        InputError: An unknown strategy, or parameters it does not take.
    """

    def __init__(
        self,
        strategy_name: str,
        params: Mapping[str, Any],
        symbol: str,
        interval: str,
        *,
        sizing: Sizing,
        history: pl.DataFrame,
    ) -> None:
        self._strategy = get(strategy_name)
        self._params = checked_params(self._strategy, params)
        self._symbol, self._interval, self._sizing = symbol, interval, sizing
        self._bars = as_bars(history)
        self._tried: tuple[datetime, Decimal] | None = None
        self.warm_up = self._strategy.warm_up(self._params)
        self.last: Decision | None = None

    @property
    def bars(self) -> pl.DataFrame:
        """Everything remembered, as it was fed."""
        return self._bars

    def on_bar(
        self, bars: pl.DataFrame, position: Decimal, equity: Decimal | None, price: Decimal | None, at: datetime
    ) -> Proposal | None:
        """Take newly closed bars and return the order that follows, None for none.

        Bars that are known already replace what was known (the vendor restated them) and decide nothing.

        Args:
            bars: `BARS` rows in order; several after an outage, of which only the newest can open a position.
            position: Held now, negative for a short.
            equity: What the account is worth, None where unknown: no position is opened then.
            price: What the symbol trades at, None where unknown: likewise.
            at: Now.
        """
        if not self._remember(bars):
            return None
        views = views_of(self._strategy, self._params, self._bars)
        if self._bars.height <= self.warm_up:
            views[:] = 0
        decision = self._decide(views, position, equity, price, at)
        self.last = decision
        return decision.proposal

    def close_out(self, position: Decimal, price: Decimal | None, at: datetime, why: str) -> Proposal | None:
        """Return the order that leaves the market whatever the strategy thinks; `why` names it for ever."""
        quantity = self._sizing.order(0, position, None, price)
        return self._propose(why, 0, quantity, at) if quantity else None

    def _remember(self, bars: pl.DataFrame) -> bool:
        """Take bars into memory; return whether any is newer than all before."""
        bars = as_bars(bars)
        newest = self._bars["timestamp"].max() if self._bars.height else None
        fresh = bars.height if newest is None else (bars["timestamp"] > newest).sum()
        joined = self._bars.vstack(bars)
        if fresh < bars.height:
            joined = joined.unique("timestamp", keep="last").sort("timestamp")
        elif joined.n_chunks() > _CHUNKS:
            joined = joined.rechunk()
        self._bars = joined.tail(MOST_BARS // 2) if joined.height > MOST_BARS else joined
        return fresh > 0

    def _decide(
        self, views: np.ndarray, position: Decimal, equity: Decimal | None, price: Decimal | None, at: datetime
    ) -> Decision:
        stamps, turns = self._bars["timestamp"], np.flatnonzero(views)
        if not turns.size:
            return Decision(stamps[-1], 0, None, None, position, equity, price, at, len(stamps))
        decided_on, fresh = stamps[int(turns[-1])], bool(views[-1])
        side = self._sizing.side_of(int(views[turns[-1]]))
        before = self._sizing.side_of(int(views[turns[-2]])) if turns.size > 1 else _sign(position)
        proposal = None
        if fresh and not (_sign(position) == side == before):
            proposal = self._ask(side, decided_on, position, equity, price, at)
        elif not fresh and self._is_left_open(side, decided_on, position):
            proposal = self._ask(0, decided_on, position, equity, price, at)
        return Decision(
            stamps[-1], int(views[-1]), side, decided_on, position, equity, price, at, len(stamps), proposal
        )

    def _is_left_open(self, side: int, decided_on: datetime, position: Decimal) -> bool:
        """Return whether an earlier view wanted the position closed and nothing came of it."""
        wants_out = _sign(position) not in (0, side)
        touched = self._tried is not None and self._tried[0] == decided_on and self._tried[1] != position
        return wants_out and not touched

    def _ask(
        self,
        side: int,
        decided_on: datetime,
        position: Decimal,
        equity: Decimal | None,
        price: Decimal | None,
        at: datetime,
    ) -> Proposal | None:
        quantity = self._sizing.order(side, position, equity, price)
        if not quantity:
            if quantity is None:
                log.warning("signal.not_sized", symbol=self._symbol, bar=str(decided_on), equity=equity, price=price)
            return None
        is_repeated = self._tried is not None and self._tried[0] == decided_on
        self._tried = decided_on, position
        leg = f"again {self._bars['timestamp'][-1].isoformat()}" if is_repeated else ""
        return self._propose(decided_on.isoformat(), side, quantity, at, leg)

    def _propose(self, moment: str, side: int, quantity: Decimal, at: datetime, leg: str = "") -> Proposal:
        key = signal_key(self._symbol, self._interval, _TARGETS[side], moment)
        way = Side.BUY if quantity > 0 else Side.SELL
        return Proposal(self._strategy.name, self._symbol, way, abs(quantity), key, at, leg=leg)


def views_of(strategy: Strategy, params: Params, bars: pl.DataFrame) -> np.ndarray:
    """Return the view of each bar, 1 bullish, -1 bearish, 0 neither or both, computed as the sweep computes it."""
    grid, matrix = Grid(strategy, (params,)), bar_matrix(bars)
    entries, exits = np.empty(bars.height, np.bool_), np.empty(bars.height, np.bool_)
    strategy.signal(matrix, grid.rows(matrix), grid.use[0], grid.vectors[0], entries, exits)
    return entries.astype(np.int8) - exits.astype(np.int8)


def checked_params(strategy: Strategy, params: Mapping[str, Any]) -> Params:
    """Return the parameter set, the strategy's defaults for those left out; raises `InputError` where it refuses."""
    try:
        return strategy.params(**params)
    except ValidationError as error:
        raise InputError(f"signals: {strategy.name} does not take {dict(params)}: {error}") from error


def _exact(value: float) -> Decimal:
    return Decimal(str(value))


def _sign(value: Decimal) -> int:
    return (value > 0) - (value < 0)
