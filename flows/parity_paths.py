"""One strategy over one period on the two research paths: the sweep's fused engine, and VectorBT's order records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl

from flows.signals import views_of
from lake.timeline import interval as interval_named
from tasks.errors import InputError
from tasks.strategies.strategy import Params, Strategy
from tasks.sweep import engine, run
from tasks.sweep.costs import Costs
from tasks.sweep.grid import Grid
from tasks.sweep.market import SweepBars, prepare_bars


@dataclass(frozen=True, slots=True)
class PathFill:
    """One execution on one path.

    Attributes:
        bar: Row of the bar it happened on.
        quantity: Base asset, negative for a sale.
        price: Quote asset, with slippage.
        fee: Quote asset.
    """

    bar: int
    quantity: float
    price: float
    fee: float


@dataclass(frozen=True)
class Case:
    """What is run on every path.

    Attributes:
        strategy: The strategy.
        params: Its parameters.
        symbol: In the vendor's spelling.
        interval: Length of a bar.
        bars: The bars as research knows them, those of the warm-up before the period included.
        first: Row of the period's first bar.
        costs: What trading costs; the accounts begin with its cash.
        expected: Every open the calendar promises, None for a market that never closes.
    """

    strategy: Strategy
    params: Params
    symbol: str
    interval: str
    bars: pl.DataFrame
    first: int
    costs: Costs
    expected: pl.Series | None = None

    def __post_init__(self) -> None:
        """Refuse what the paths could not agree on from the start.

        Raises:
            InputError: The period begins before the strategy's signals can be trusted.
        """
        warm_up = self.strategy.warm_up(self.params)
        if self.first < warm_up:
            raise InputError(
                f"parity: expected at least {warm_up} bars of warm-up before the period, found {self.first}; "
                "begin later, or backfill earlier bars"
            )

    @cached_property
    def market(self) -> SweepBars:
        """The bars as the engines read them."""
        return prepare_bars(self.bars, self.interval, expected=self.expected)

    @cached_property
    def stamps(self) -> list[datetime]:
        """The opens."""
        return self.bars["timestamp"].to_list()

    @cached_property
    def views(self) -> np.ndarray:
        """The view of each bar, in one pass over all of them."""
        return views_of(self.strategy, self.params, self.bars)

    @cached_property
    def last(self) -> int:
        """Row of the last bar that can be traded: what is open is closed there. The first row where none can."""
        tradable = np.flatnonzero(self.market.tradable[self.first + 1 :])
        return self.first + 1 + int(tradable[-1]) if tradable.size else self.first

    def closes_at(self, row: int) -> datetime:
        """Return when a bar is closed."""
        return interval_named(self.interval).next(self.stamps[row])


def sweep_fills(case: Case) -> list[PathFill]:
    """Return the fills of the sweep's fused engine."""
    grid = Grid(case.strategy, (case.params,))
    told = case.strategy.signal, case.market, grid.rows(case.market.matrix), grid.use[0], grid.vectors[0]
    trades = engine.trade_set(*told, case.costs, slice(case.first, len(case.market)))
    sides, legs = trades[:, 2] * trades[:, 3], _Orders(case)
    for (entry, leaving, _, _, paid, got, *_), signed in zip(trades, sides, strict=True):
        legs.add(int(entry), signed, paid)
        legs.add(int(leaving), -signed, got)
    return legs.fills()


def event_fills(case: Case) -> list[PathFill]:
    """Return the fills of VectorBT, the engine of record, from the same views."""
    views, segment = case.views[None, :], slice(case.first, len(case.market))
    simulated = run.simulate(case.market, views > 0, views < 0, case.costs, segment)
    legs = _Orders(case)
    for trade in simulated.trades:
        signed = trade["size"] * (1 if trade["direction"] == 0 else -1)
        legs.add(int(trade["entry_idx"]), signed, trade["entry_price"])
        legs.add(int(trade["exit_idx"]), -signed, trade["exit_price"])
    return legs.fills()


class _Orders:
    """Puts the two trades that a reversal is in a list of trades together to the one order it was."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._orders: dict[int, tuple[float, float]] = {}

    def add(self, bar: int, quantity: float, price: float) -> None:
        self._orders[bar] = self._orders.get(bar, (0.0, 0.0))[0] + float(quantity), float(price)

    def fills(self) -> list[PathFill]:
        rate, fixed = self._case.costs.fee_bps / 1e4, self._case.costs.fixed_fee
        return [
            PathFill(self._case.first + bar, quantity, price, abs(quantity) * price * rate + fixed)
            for bar, (quantity, price) in sorted(self._orders.items())
        ]


def equity_of(case: Case, fills: list[PathFill]) -> np.ndarray:
    """Return what an account that made these fills is worth at each close of the period."""
    moved, held = np.zeros(len(case.market)), np.zeros(len(case.market))
    for fill in fills:
        moved[fill.bar] -= fill.quantity * fill.price + fill.fee
        held[fill.bar] += fill.quantity
    worth = case.costs.initial_cash + np.cumsum(moved) + np.cumsum(held) * case.market.closes
    return worth[case.first :]
