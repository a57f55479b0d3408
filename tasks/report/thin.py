"""Make long histories light enough for a page without hiding what they say.

Nothing is dropped at random where an extreme could be lost: a thinned equity curve keeps the deepest drawdown of each
stretch, a thinned price keeps each stretch's high and low.
"""

from __future__ import annotations

import polars as pl

from lake.timeline import INTERVALS

MAX_POINTS = 1_500
MAX_CANDLES = 900
MAX_MARKERS = 600


def with_benchmark_drawdown(equity: pl.DataFrame) -> pl.DataFrame:
    """Add `benchmark_drawdown` (fraction, ≤ 0) to the rows of one sample; every curve starts from 1."""
    highest = pl.col("benchmark").cum_max().clip(lower_bound=1.0)
    return equity.with_columns(benchmark_drawdown=pl.col("benchmark") / highest - 1)


def equity_points(equity: pl.DataFrame, limit: int = MAX_POINTS) -> pl.DataFrame:
    """Return at most about `limit` rows of one sample's equity.

    Each stretch keeps its last equity and benchmark and its worst drawdowns; the first row stays, so that every curve
    still starts at 1.
    """
    rows = with_benchmark_drawdown(equity)
    if rows.height <= limit:
        return rows
    stretch = (pl.int_range(pl.len()) * limit // pl.len()).alias("stretch")
    thinned = rows.group_by(stretch, maintain_order=True).agg(
        pl.col("timestamp", "equity", "benchmark", "sample", "window").last(),
        pl.col("drawdown", "benchmark_drawdown").min(),
    )
    return pl.concat([rows.head(1), thinned.select(rows.columns)])


def candle_interval(bars: pl.DataFrame, interval: str, limit: int = MAX_CANDLES) -> str:
    """Return the shortest interval, `interval` or longer, at which `bars` make at most `limit` candles."""
    names = list(INTERVALS)
    longer = names[names.index(interval) :]
    return next((name for name in longer if candles(bars, name).height <= limit), names[-1])


def candles(bars: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Resample bars to `interval`: first open, highest high, lowest low, last close, summed volume."""
    return (
        bars.sort("timestamp")
        .group_by_dynamic("timestamp", every=interval)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )


def latest(trades: pl.DataFrame, limit: int = MAX_MARKERS) -> pl.DataFrame:
    """Return the last `limit` trades by entry."""
    return trades.sort("entry_timestamp").tail(limit)


def sample_rows(frame: pl.DataFrame, limit: int, seed: int = 0) -> pl.DataFrame:
    """Return at most `limit` rows, drawn with a fixed seed so that the same run gives the same page."""
    return frame if frame.height <= limit else frame.sample(limit, seed=seed, shuffle=False)
