"""Long histories made light."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.schema import as_bars
from tasks.report.thin import candle_interval, candles, equity_points, latest
from tasks.sweep.result import SweepResult

START = datetime(2020, 1, 1, tzinfo=UTC)


def _equity(values: list[float]) -> pl.DataFrame:
    moments = [START + timedelta(minutes=n) for n in range(len(values))]
    frame = pl.DataFrame({"timestamp": moments, "equity": values, "benchmark": values[::-1]})
    return frame.with_columns(
        drawdown=pl.col("equity") / pl.col("equity").cum_max() - 1,
        sample=pl.lit("out"),
        window=pl.lit(0, pl.Int64),
    )


@settings(max_examples=60)
@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=400), st.integers(2, 50))
def test_thinning_keeps_the_start_the_end_and_the_worst(values: list[float], limit: int) -> None:
    """However long the curve, its start, its end and both deepest drawdowns survive thinning."""
    rows = _equity(values)
    points = equity_points(rows, limit)
    assert points.height <= max(limit + 1, 2)
    assert points["equity"][0] == values[0]
    assert points["equity"][-1] == values[-1]
    assert points["drawdown"].min() == rows["drawdown"].min()
    benchmark = rows["benchmark"] / rows["benchmark"].cum_max().clip(lower_bound=1.0) - 1
    assert points["benchmark_drawdown"].min() == benchmark.min()
    assert points["timestamp"].is_sorted()


def test_candles_keep_every_extreme(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A resampled candle shows the true first, last, highest and lowest price, and no volume is lost."""
    _, bars = sweep
    days = candles(bars, "1d")
    assert days.height == 31
    assert days["high"].max() == bars["high"].max()
    assert days["low"].min() == bars["low"].min()
    assert days["open"][0] == bars["open"][0]
    assert days["close"][-1] == bars["close"][-1]
    assert days["volume"].sum() == pytest.approx(bars["volume"].sum())


@pytest.mark.parametrize(("days", "interval"), [(0.1, "1m"), (1, "3m"), (31, "2h"), (365, "1d"), (3650, "1mo")])
def test_candles_fit_the_page(days: float, interval: str) -> None:
    """The candles are the finest that still fit the limit."""
    step = 1 if days < 100 else 60
    moments = [START + timedelta(minutes=n) for n in range(0, int(days * 1440), step)]
    bars = pl.DataFrame({"timestamp": moments}).with_columns(
        pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close", "volume")
    )
    assert candle_interval(bars, "1m", limit=500) == interval
    assert candles(bars, interval).height <= 500


def test_candles_are_never_finer_than_the_bars() -> None:
    """Ten daily bars stay daily."""
    bars = as_bars(
        pl.DataFrame({"timestamp": [START + timedelta(days=n) for n in range(10)]}).with_columns(
            pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close", "volume")
        )
    )
    assert candle_interval(bars, "1d") == "1d"
    assert candle_interval(bars, "1d", limit=3) == "1w"


def test_the_latest_trades_are_kept(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Too many markers leave the newest trades, in order."""
    trades = sweep[0].trades.sample(fraction=1, shuffle=True, seed=1)
    kept = latest(trades, 5)
    assert kept["entry_timestamp"].to_list() == sorted(trades["entry_timestamp"])[-5:]
