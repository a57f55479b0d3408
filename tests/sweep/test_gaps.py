"""Holes in the bars: the market jumps while nobody looks, and no backtest owes anything to it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tasks.strategies.registry import STRATEGIES, get
from tasks.sweep import engine, run
from tasks.sweep.costs import Costs
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import SweepBars, prepare_bars
from tasks.sweep.sweep import run_sweep
from tasks.sweep.windows import WindowPlan

#: The first bars after two holes of 31 and 2 bars, counted among the bars that are there.
ROWS, HOLES = 1_500, (700, 1_069)
MISSING = (*range(700, 731), 1_100, 1_101)


def jumping(make_bars, jump: float) -> pl.DataFrame:
    """Return bars with two holes; across each, the price jumps by a factor that the bars alone do not explain."""
    frame = make_bars(ROWS, seed=11, drop=MISSING)
    row = pl.int_range(pl.len())
    factor = jump ** ((row >= HOLES[0]).cast(pl.Int8) + (row >= HOLES[1]).cast(pl.Int8))
    return frame.with_columns(pl.col("open", "high", "low", "close") * factor)


def trades_of(bars: SweepBars, strategy: str, costs: Costs) -> dict[str, np.ndarray]:
    """Return each engine's trades for some parameters: entry bar, exit bar, side, profit."""
    grid = plan_grid(get(strategy))
    grid = grid.pick(range(0, len(grid), max(1, len(grid) // 4)))
    rows, span, found = grid.rows(bars.matrix), slice(0, len(bars)), {"fused": [], "vectorbt": []}
    for k in range(len(grid)):
        told = grid.strategy.signal, bars, rows, grid.use[k], grid.vectors[k], costs, span
        found["fused"].append(engine.trade_set(*told)[:, [0, 1, 2, 7]])
        entries, exits = np.empty((2, 1, len(bars)), dtype=bool)
        grid.strategy.signal(bars.matrix, rows, grid.use[k], grid.vectors[k], entries[0], exits[0])
        listed = run.simulate(bars, entries, exits, costs, span).trades
        sides = 1 - 2 * listed["direction"]
        found["vectorbt"].append(np.column_stack([listed["entry_idx"], listed["exit_idx"], sides, listed["pnl"]]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def across(trades: np.ndarray) -> np.ndarray:
    """Return which trades were open while bars were missing."""
    return np.any([(trades[:, 0] < hole) & (trades[:, 1] >= hole) for hole in HOLES], axis=0)


@pytest.mark.parametrize("stops", [{}, {"stop_loss": 0.04, "take_profit": 0.04}], ids=["no stops", "stops"])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_nobody_owes_anything_to_a_hole(bars, strategy: str, stops: dict[str, float]) -> None:
    """Prices that double or halve while bars are missing change no trade and no profit, in either engine."""
    costs = Costs(direction="both", **stops)
    calm = trades_of(prepare_bars(jumping(bars, 1.0), "1m").joined(), strategy, costs)
    for jump in (2.0, 0.5):
        joined = prepare_bars(jumping(bars, jump), "1m").joined()
        for name, trades in trades_of(joined, strategy, costs).items():
            np.testing.assert_allclose(trades, calm[name], rtol=1e-7, atol=1e-6, err_msg=f"{name}, prices × {jump}")
            assert not np.isin(trades[:, :2], HOLES).any(), f"{name} filled an order on the first bar after a hole"
    if not stops:
        assert across(calm["fused"]).any(), "no position was open during a hole: the test proves nothing"


def test_without_the_join_a_held_position_would_earn_the_jump(bars) -> None:
    """The same trades on prices as they are: what happened inside the hole is what the join takes out."""
    told = "ma_crossover", Costs(direction="both")
    raw = trades_of(prepare_bars(jumping(bars, 2.0), "1m"), *told)["fused"]
    joined = trades_of(prepare_bars(jumping(bars, 2.0), "1m").joined(), *told)["fused"]
    cash = Costs().initial_cash
    assert np.abs(raw[across(raw), 3]).max() > 0.5 * cash
    assert np.abs(joined[across(joined), 3]).max() < 0.2 * cash


def test_joining_looks_back_only(bars) -> None:
    """Bars before a hole keep their prices; the first open after it is the close before it; whole bars stay as is."""
    raw = prepare_bars(jumping(bars, 2.0), "1m")
    joined = raw.joined()
    assert np.array_equal(joined.matrix[:, : HOLES[0]], raw.matrix[:, : HOLES[0]])
    for hole in HOLES:
        assert joined.opens[hole] == pytest.approx(joined.closes[hole - 1], rel=1e-12)
    np.testing.assert_allclose(joined.matrix[:4] / joined.scale, raw.matrix[:4], rtol=1e-12)
    whole = prepare_bars(bars(50), "1m")
    assert whole.joined() is whole


def test_a_sweep_joins_and_shows_the_prices_that_were_paid(bars) -> None:
    """A whole sweep over a doubling in a hole: fills at prices of their bars, both halves of the run alike."""
    plan = WindowPlan(count=2)
    told = {"symbol": "AB", "interval": "1m", "strategy": "ma_crossover", "windows": plan, "robustness": False}
    calm, wild = (run_sweep(jumping(bars, jump), **told) for jump in (1.0, 2.0))
    assert wild.metrics["total_return"] == pytest.approx(calm.metrics["total_return"], rel=1e-6)
    bars_of = jumping(bars, 2.0).select("timestamp", "open")
    for side in ("entry", "exit"):
        fills = wild.trades.join(bars_of, left_on=f"{side}_timestamp", right_on="timestamp", how="inner")
        assert fills.height == wild.trades.height > 5
        np.testing.assert_allclose(fills[f"{side}_price"], fills["open"], rtol=3e-4)
