"""A regular grid over bars: a view with holes filled and marked, never rows of a table.

A filled row says so. No backtest may open, close or stop on one: `is_synthetic` and `gap_age` are there to prevent it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from lake.calendar import TradingCalendar
from lake.schema import BARS
from lake.timeline import EPOCH
from lake.timeline import interval as interval_named

if TYPE_CHECKING:
    from lake.store import Lake

_OPEN = TradingCalendar.always_open()
_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("volume", "quote_volume")

#: Columns of a grid: those of bars, whether the row was filled, and how many rows ago the last real bar was.
GRID: dict[str, pl.DataType] = {**BARS, "is_synthetic": pl.Boolean(), "gap_age": pl.Int64()}


def read_grid(
    lake: Lake,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    *,
    calendar: TradingCalendar = _OPEN,
    version: int | None = None,
    as_of: datetime | None = None,
) -> pl.DataFrame:
    """Return one symbol's bars on every open that the calendar expects in ``[start, end)`` and has closed by now."""
    closed = interval_named(interval).closed_end(lake.now())
    bars = lake.read_bars(symbol, interval, start, end, version=version, as_of=as_of)
    opens = calendar.expected_opens(interval, start, max(min(end, closed), EPOCH))
    return fill(bars, opens)


def fill(bars: pl.DataFrame, opens: pl.Series) -> pl.DataFrame:
    """Return `bars` with a row for every one of `opens` that they lack, in the columns of `GRID`.

    A filled row repeats the last real close as its four prices, with no volume; `gap_age` counts rows since the last
    real bar (0 on a real one). Before the first real bar there is nothing to repeat: prices and `gap_age` are null.
    Bars at other times than `opens` stay.

    Args:
        bars: Sorted `BARS`.
        opens: Sorted opens that are expected.
    """
    times = pl.concat([bars["timestamp"], opens.alias("timestamp")]).unique().sort()
    grid = times.to_frame().join(
        bars.with_columns(is_synthetic=False), on="timestamp", how="left", maintain_order="left"
    )
    synthetic = pl.col("is_synthetic").is_null()
    last_close = pl.col("close").forward_fill()
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    last_real = pl.when(~synthetic).then(row).forward_fill()
    return grid.with_columns(
        *(pl.when(synthetic).then(last_close).otherwise(pl.col(name)).alias(name) for name in _PRICES),
        *(pl.when(synthetic).then(0.0).otherwise(pl.col(name)).alias(name) for name in _VOLUMES),
        is_synthetic=synthetic,
        gap_age=row - last_real,
    ).cast(GRID)  # type: ignore[arg-type]
