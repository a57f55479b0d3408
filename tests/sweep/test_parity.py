"""VectorBT's trades against an independent bar-by-bar loop in plain Python: the definition of what a signal costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from tasks.strategies.registry import get
from tasks.sweep import run
from tasks.sweep.costs import Costs
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import SweepBars, prepare_bars


@dataclass
class Trade:
    """One round trip of the loop."""

    entry: int
    exit: int
    side: int
    quantity: float
    entry_price: float
    exit_price: float
    entry_fee: float
    exit_fee: float

    @property
    def pnl(self) -> float:
        """Profit after both fees."""
        return self.side * self.quantity * (self.exit_price - self.entry_price) - self.entry_fee - self.exit_fee


def trade_bar_by_bar(
    bullish: list[bool], bearish: list[bool], opens: list[float], tradable: list[bool], costs: Costs
) -> list[Trade]:
    """Follow the signals one bar at a time: decide at the close, fill at the next open, pay for it, end flat.

    An entry spends all cash (a short sells as much as the cash would buy). A reversal is one order, so it pays the
    fixed fee once; closing and opening part share its fee by quantity.
    """
    fee, slip, fixed = costs.fee_bps / 10_000, costs.slippage_bps / 10_000, costs.fixed_fee
    cash, trades, held = costs.initial_cash, [], None
    last = max((t for t in range(1, len(opens)) if tradable[t]), default=0)
    for t in range(1, last + 1):
        view = bullish[t - 1] - bearish[t - 1] if tradable[t] else 0
        side = {"long": max(view, 0), "short": min(view, 0), "both": view}[costs.direction] if t < last else 0
        closing = held is not None and (t == last or view == -held.side)
        opening = side != 0 and (held is None or closing)
        if not (closing or opening):
            continue
        close_quantity, direction = (held.quantity, -held.side) if closing else (0.0, side)
        price = opens[t] * (1 + direction * slip)
        open_quantity = 0.0
        if opening and direction > 0:
            open_quantity = (cash - fixed) / (1 + fee) / price - close_quantity
        elif opening:
            open_quantity = (cash + close_quantity * price * (1 - fee) - fixed) / (price * (1 + fee))
        quantity = close_quantity + open_quantity
        paid = quantity * price * fee + fixed
        cash += -direction * quantity * price - paid
        if closing:
            held.exit, held.exit_price, held.exit_fee = t, price, paid * close_quantity / quantity
            trades.append(held)
            held = None
        if opening:
            held = Trade(t, -1, side, open_quantity, price, math.nan, paid * open_quantity / quantity, math.nan)
    return trades


def moving_average(values: list[float], window: int) -> list[float]:
    """Return the mean of the last `window` values, summed exactly each time."""
    short = [math.nan] * (window - 1)
    return short + [math.fsum(values[t - window + 1 : t + 1]) / window for t in range(window - 1, len(values))]


def crossover(bars: SweepBars, fast: int, slow: int) -> tuple[list[bool], list[bool]]:
    """Return the crossings of two moving averages, by definition."""
    closes = bars.closes.tolist()
    a, b = moving_average(closes, fast), moving_average(closes, slow)
    pairs = range(1, len(closes))
    up = [False] + [a[t] > b[t] and a[t - 1] <= b[t - 1] for t in pairs]
    down = [False] + [a[t] < b[t] and a[t - 1] >= b[t - 1] for t in pairs]
    return up, down


def pressure(bars: SweepBars, lookback: int, entry: float, leave: float) -> tuple[list[bool], list[bool]]:
    """Return where signed volume over total volume rises through one level and falls through another."""
    opens, _, _, closes, volumes = bars.matrix.tolist()
    signed = [v * ((c > o) - (c < o)) for o, c, v in zip(opens, closes, volumes, strict=True)]
    top, bottom = moving_average(signed, lookback), moving_average(volumes, lookback)
    share = [x / y if y > 0 else math.nan for x, y in zip(top, bottom, strict=True)]
    pairs = range(1, len(closes))
    up = [False] + [share[t] > entry and share[t - 1] <= entry for t in pairs]
    down = [False] + [share[t] < leave and share[t - 1] >= leave for t in pairs]
    return up, down


CASES = [
    ("ma_crossover", {"fast": [3, 7], "slow": [10, 21]}, crossover),
    ("volume_pressure", {"lookback": [8, 30], "entry": [0.1, 0.3], "exit": [-0.2, 0.0]}, pressure),
]
COSTS = [Costs(), Costs(fee_bps=25.0, fixed_fee=1.5, slippage_bps=10.0), Costs(fee_bps=0, slippage_bps=0)]


def assert_equal_trades(bars: SweepBars, strategy: str, values: dict, by_hand: Callable, costs: Costs) -> int:
    """Compare every trade of every combination; return how many there were."""
    grid = plan_grid(get(strategy), values)
    rows, count = grid.rows(bars.matrix), 0
    for k, params in enumerate(grid.sets):
        entries, exits = np.empty((2, 1, len(bars)), dtype=bool)
        grid.strategy.signal(bars.matrix, rows, grid.use[k], grid.vectors[k], entries[0], exits[0])
        found = run.simulate(bars, entries, exits, costs, slice(0, len(bars))).trades
        signals = by_hand(bars, *params.model_dump().values())
        expected = trade_bar_by_bar(*signals, bars.opens.tolist(), bars.tradable.tolist(), costs)
        assert found["entry_idx"].tolist() == [trade.entry for trade in expected]
        assert found["exit_idx"].tolist() == [trade.exit for trade in expected]
        assert (1 - 2 * found["direction"]).tolist() == [trade.side for trade in expected]
        columns = ("quantity", "entry_price", "exit_price", "entry_fee", "exit_fee", "pnl")
        theirs = ("size", "entry_price", "exit_price", "entry_fees", "exit_fees", "pnl")
        for ours, field in zip(columns, theirs, strict=True):
            wanted = [getattr(trade, ours) for trade in expected]
            np.testing.assert_allclose(found[field], wanted, rtol=1e-9, atol=1e-9, err_msg=f"{field} of {params}")
        count += len(expected)
    return count


@pytest.mark.parametrize("direction", ["long", "short", "both"])
@pytest.mark.parametrize("costs", COSTS, ids=["default", "heavy", "free"])
@pytest.mark.parametrize(("strategy", "values", "by_hand"), CASES, ids=[case[0] for case in CASES])
def test_trades_equal_a_bar_by_bar_loop(bars, strategy, values, by_hand, costs, direction) -> None:
    """Every trade equals the loop's: bars, prices, quantity, both fees and profit, on bars with ties and holes."""
    frame = bars(600, seed=3, drop=(100, 101, 250, 400))
    prepared = prepare_bars(frame, "1m")
    traded = assert_equal_trades(prepared, strategy, values, by_hand, costs.model_copy(update={"direction": direction}))
    assert traded > 40


@pytest.mark.parametrize(("strategy", "values", "by_hand"), CASES, ids=[case[0] for case in CASES])
def test_trades_equal_the_loop_on_real_bars(bitcoin: pl.DataFrame, strategy, values, by_hand) -> None:
    """The same on bitcoin's real minutes."""
    prepared = prepare_bars(bitcoin.head(5_000), "1m")
    assert assert_equal_trades(prepared, strategy, values, by_hand, Costs()) > 200


def test_no_fill_happens_across_a_hole(bars) -> None:
    """A bar whose predecessor is missing is never filled on, whatever the signal before the hole said."""
    prepared = prepare_bars(bars(200, drop=(50, 51, 120)), "1m")
    signals = np.ones((1, len(prepared)), dtype=bool)
    entries, exits = signals.copy(), signals.copy()
    entries[0, 1::2], exits[0, ::2] = False, False
    trades = run.simulate(prepared, entries, exits, Costs(), slice(0, len(prepared))).trades
    touched = set(trades["entry_idx"].tolist()) | set(trades["exit_idx"].tolist())
    assert len(touched) > 150
    assert not touched & {0, 50, 118}
    assert not prepared.tradable[[0, 50, 118]].any()
