"""The sides that `make bench-sweep` compares; as a command, one side in a process of its own.

``python -m benchmarks.sweep_sides NAME`` prints the seconds since the process began and its peak memory in MiB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from tasks.strategies.registry import get
from tasks.sweep import engine, fused
from tasks.sweep.costs import Costs
from tasks.sweep.grid import Grid, plan_grid
from tasks.sweep.market import SweepBars
from tasks.sweep.question import Question
from tasks.sweep.windows import Window, WindowPlan

COSTS = Costs()
PER_YEAR = 525_600.0


def walk(rows: int, seed: int = 0) -> SweepBars:
    """Return a seeded random walk of minutes with opens off the closes."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, rows)))
    opened = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 1e-4, rows))
    matrix = [opened, np.maximum(opened, close), np.minimum(opened, close), close, rng.lognormal(3, 1, rows)]
    stamps = np.arange(rows).astype("datetime64[m]").astype("datetime64[us]")
    return SweepBars(stamps, np.ascontiguousarray(matrix), np.arange(rows) > 0, PER_YEAR)


def small_grid() -> Grid:
    """Return the 1,225 pairs of windows 2 to 51."""
    return plan_grid(get("ma_crossover"), {"fast": range(2, 51), "slow": range(3, 52)})


def large_grid() -> Grid:
    """Return 10,000 pairs."""
    return plan_grid(get("ma_crossover"), {"fast": range(2, 102), "slow": range(110, 210)})


def fused_grid(
    grid: Grid, bars: SweepBars, threads: int | None = None, memory_mb: float = fused.MEMORY_MB
) -> np.ndarray:
    """Run a grid over all bars with the product's engine: rows, signals, trades, figures."""
    return fused.run_grid(_question(grid, bars), memory_mb=memory_mb, threads=threads)[:, 0, :5]


class _OneSegment(Question):
    """A question about one run over all bars."""

    @property
    def segments(self) -> tuple[slice, ...]:
        return (slice(0, len(self.bars)),)


def _question(grid: Grid, bars: SweepBars) -> Question:
    window = Window(0, 0, len(bars) - 2, len(bars) - 2, len(bars))
    return _OneSegment("WALK", "1m", bars, grid, (window,), WindowPlan(count=1), COSTS)


def vectorbt_chunks(grid: Grid, bars: SweepBars, cells: int = 1_000_000) -> np.ndarray:
    """Run a grid with VectorBT at its best: our averages and signals, its simulator called directly, in chunks."""
    from tasks.sweep import run

    question = _question(grid, bars)
    figures = []
    for part in run.chunks(len(grid), len(bars), cells):
        entries, exits = question.signals(range(part.start, part.stop))
        figures.append(run.simulate(bars, entries, exits, COSTS, slice(0, len(bars))).figures)
    return np.concatenate(figures)


def vectorbt_usual(bars: SweepBars) -> Any:
    """Run the 1,225 pairs as VectorBT's documentation does: `run_combs`, crossings, `from_signals`, `sharpe_ratio`."""
    import pandas as pd
    import vectorbt as vbt

    index = pd.DatetimeIndex(bars.timestamps)
    close, opened = pd.Series(bars.closes, index=index), pd.Series(bars.opens, index=index)
    fast, slow = vbt.MA.run_combs(close, window=np.arange(2, 52), r=2, short_names=["fast", "slow"])
    entries, exits = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
    portfolio: Any = vbt.Portfolio.from_signals(
        close,
        entries.vbt.signals.fshift(1),
        exits.vbt.signals.fshift(1),
        price=opened,
        fees=COSTS.fee_bps / 1e4,
        slippage=COSTS.slippage_bps / 1e4,
        freq="1min",
    )
    return portfolio.sharpe_ratio(), portfolio.total_return()


@njit(cache=True, nogil=True)
def _by_hand(rows, pairs, opens, closes, fee, slip, cash, out):
    """Cross two averages, trade and judge in one loop: what a person would write for this one strategy."""
    for k in range(pairs.shape[0]):
        fast, slow = rows[pairs[k, 0]], rows[pairs[k, 1]]
        money, held, value, peak, worst = cash, 0.0, cash, cash, 0.0
        total, squares, trades, wins, paid = 0.0, 0.0, 0, 0, 0.0
        for t in range(2, closes.size):
            up = (fast[t - 1] > slow[t - 1]) & (fast[t - 2] <= slow[t - 2])
            down = (fast[t - 1] < slow[t - 1]) & (fast[t - 2] >= slow[t - 2])
            if held == 0 and up and t < closes.size - 1:
                paid = money
                held = money / (1 + fee) / (opens[t] * (1 + slip))
                money = 0.0
            elif held > 0 and (down or t == closes.size - 1):
                money = held * opens[t] * (1 - slip) * (1 - fee)
                held = 0.0
                trades += 1
                wins += money > paid
            now = money + held * closes[t]
            change = now / value - 1
            value = now
            total += change
            squares += change * change
            if now > peak:
                peak = now
            elif now / peak - 1 < worst:
                worst = now / peak - 1
        count = closes.size
        out[k, 0] = value / cash - 1
        out[k, 1] = total / count / np.sqrt((squares - total * total / count) / (count - 1))
        out[k, 2], out[k, 3], out[k, 4] = worst, trades, wins / max(trades, 1)


def by_hand(grid: Grid, bars: SweepBars) -> np.ndarray:
    """Run a crossover grid with the kernel written for it alone, one thread, all rows in memory."""
    out = np.empty((len(grid), 5))
    fee, slip = COSTS.fee_bps / 1e4, COSTS.slippage_bps / 1e4
    _by_hand(grid.rows(bars.matrix), grid.use, bars.opens, bars.closes, fee, slip, COSTS.initial_cash, out)
    out[:, 1] *= np.sqrt(bars.periods_per_year)
    return out


def any_strategy(bars: SweepBars, rows: np.ndarray | None = None) -> np.ndarray:
    """Run one parameter set of the article's strategy through the engine, its indicator included unless given."""
    grid = pressure_grid()
    rows = grid.rows(bars.matrix) if rows is None else rows
    span, signal = np.array([[0, len(bars)]]), grid.strategy.signal
    return engine.run_sets(signal, bars, rows, grid.use, grid.vectors, CHEAP, span, threads=1)[0, 0]


#: Ten years of trading 53,000 times would end with nothing at the usual costs.
CHEAP = Costs(fee_bps=0.05, slippage_bps=0.0)


def pressure_grid() -> Grid:
    """Return one volume-pressure set that trades about every twenty bars: 53,040 times in ten years of our walk."""
    return plan_grid(get("volume_pressure"), {"lookback": [12], "entry": [0.0], "exit": [-0.05]})


def certified(grid: Grid, bars: SweepBars) -> None:
    """Run a grid and certify its winner and a sample against VectorBT."""
    from tasks.sweep.certify import certify

    question = _question(grid, bars)
    figures = fused.run_grid(question)
    certify(question, figures, [int(np.nanargmax(figures[:, 0, 1]))])


def main(side: str) -> None:
    """Run one side and print what it took, from the start of the process."""
    if side.startswith("fused"):
        figures = fused_grid(small_grid(), walk(10_000))
        np.argsort(figures[:, 1])
        if side == "fused-certified":
            certified(small_grid(), walk(10_000))
    elif side == "usual":
        vectorbt_usual(walk(10_000))[0].sort_values()
    elif side == "large":
        fused_grid(large_grid(), walk(100_000))
    elif side == "one":
        any_strategy(walk(1_051_200))
    print(json.dumps({"seconds": age_s(), "peak_mib": peak_mib()}))


def age_s() -> float:
    """Return the age of this process by the clock that nobody sets; the wall clock may have been, since the start."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def peak_mib() -> float:
    """Return this process's own peak; `ru_maxrss` would count what its parent held when it was started."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
