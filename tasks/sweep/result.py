"""What a sweep hands over: one value that the store keeps and the report draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lake.schema import TIMESTAMP

#: The figures of one backtest, in the order every table shows them.
FIGURES = ("total_return", "sharpe", "max_drawdown", "trades", "win_rate")

#: Columns of `SweepResult.equity`; `drawdown` is a fraction ≤ 0, `sample` is ``in`` or ``out``.
EQUITY: dict[str, pl.DataType] = {
    "timestamp": TIMESTAMP,
    "equity": pl.Float64(),
    "drawdown": pl.Float64(),
    "benchmark": pl.Float64(),
    "sample": pl.String(),
    "window": pl.Int64(),
}

#: Columns of `SweepResult.trades`; `side` is ``long`` or ``short``, `fees` and `pnl` are in the quote asset.
TRADES: dict[str, pl.DataType] = {
    "entry_timestamp": TIMESTAMP,
    "exit_timestamp": TIMESTAMP,
    "side": pl.String(),
    "quantity": pl.Float64(),
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),
    "fees": pl.Float64(),
    "pnl": pl.Float64(),
    "return": pl.Float64(),
    "sample": pl.String(),
    "window": pl.Int64(),
}


@dataclass(frozen=True)
class SweepResult:
    """One finished sweep of one strategy over one symbol.

    Attributes:
        run_id: Names the run in the lake; the same inputs give the same name.
        symbol: In the vendor's spelling.
        interval: Length of a bar.
        strategy: Name in `tasks.strategies`.
        params: The winner: best Sharpe ratio on the in-sample span, chosen without looking at anything later.
        grid: One row a combination: parameter columns, then its figures in one run over the in-sample span (``is_``:
            the first train part) and in one run over the out-of-sample span (``oos_``: every test part, side by side).
        windows: One row a walk-forward window: borders, the parameters chosen on its train part, figures of both parts.
        equity: Equity curves starting at 1.0: ``out`` is the stitched out-of-sample walk-forward, ``in`` the winner on
            the in-sample span; `benchmark` is buy and hold over the same rows, at the same costs.
        trades: The trades behind both curves.
        metrics: Out-of-sample headline figures; see `tasks.sweep.metrics`.
        verdict: One sentence: what survives and why, or that nothing does.
        verdict_passed: Whether anything survives.
        verdict_details: Every number behind the sentence.
        record: What makes the run reproducible: grid, costs, windows, seed, code and lake version, trials, engine.
        extras: Further tables by name (cost sensitivity, Monte Carlo bands, …), empty where not asked for.
    """

    run_id: str
    symbol: str
    interval: str
    strategy: str
    params: dict[str, Any]
    grid: pl.DataFrame
    windows: pl.DataFrame
    equity: pl.DataFrame
    trades: pl.DataFrame
    metrics: dict[str, float]
    verdict: str
    verdict_passed: bool
    verdict_details: dict[str, float | str]
    record: dict[str, Any]
    extras: dict[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the grid's parameter columns."""
        return tuple(name for name in self.grid.columns if not name.startswith(("is_", "oos_")))
