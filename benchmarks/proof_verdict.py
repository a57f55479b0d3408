"""Proof: whole sweeps of noise hardly ever survive, and sweeps over a planted edge do. Run by ``make proof-verdict``.

Every sweep crosses 1,020 pairs of moving averages over 2,000 daily bars without costs, the most favourable case for
luck. The edge is a drift that keeps its sign for 40 bars, at 0.45 of a bar's deviation: known in advance, it is worth a
Sharpe ratio above 8 a year; the moving averages find about half of it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from rich.progress import track

from benchmarks.runner import Table
from lake.schema import as_bars
from tasks.sweep.costs import Costs
from tasks.sweep.result import SweepResult
from tasks.sweep.sweep import run_sweep

BARS = 2_000
GRID = {"fast": range(1, 31), "slow": range(35, 103, 2)}
DEVIATION = 0.01


def sweep_over(seed: int, edge: float) -> SweepResult:
    """Sweep a seeded random walk whose drift of `edge` deviations changes its sign, or not, every 40 bars."""
    rng = np.random.default_rng(seed)
    signs = np.repeat(rng.choice([-1.0, 1.0], BARS // 40), 40)
    close = 100 * np.exp(np.cumsum(DEVIATION * (rng.normal(size=BARS) + edge * signs)))
    opened = np.concatenate([[100.0], close[:-1]])
    frame = pl.DataFrame(
        {
            "timestamp": [datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=k) for k in range(BARS)],
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": np.ones(BARS),
        }
    )
    costs = Costs(fee_bps=0.0, slippage_bps=0.0, direction="both")
    told = {"symbol": f"WALK{seed}", "interval": "1d", "strategy": "ma_crossover", "robustness": False}
    return run_sweep(as_bars(frame), grid=GRID, costs=costs, **told)


def main(noise: int = 200, planted: int = 50) -> None:
    """Sweep as often as asked and print the table."""
    lucky = [sweep_over(seed, 0.0) for seed in track(range(noise), "noise")]
    skilled = [sweep_over(1_000 + seed, 0.45) for seed in track(range(planted), "planted edge")]
    table = Table(f"{len(lucky[0].grid):,} trials a sweep, {BARS:,} bars, no costs, both directions")
    table.figure("noise that survives, share", sum(r.verdict_passed for r in lucky) / noise, at_most=0.05)
    found = float(np.median([result.metrics["sharpe"] for result in skilled]))
    share = sum(r.verdict_passed for r in skilled) / planted
    table.figure("planted edge that survives, share", share, at_least=0.8, detail=f"median Sharpe found {found:.1f}")
    table.finish()


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:3]))
