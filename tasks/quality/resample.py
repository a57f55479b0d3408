"""What a table's bars should be, going by a finer table of the same lake."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from lake.calendar import TradingCalendar
from lake.schema import BARS
from lake.store import Lake
from lake.timeline import INTERVALS, Interval


def finer_interval(lake: Lake, interval: Interval) -> Interval | None:
    """Return the finest interval that the lake holds bars of and `interval` is a multiple of, None where there is none.

    Bars of a day and more are not compared: an exchange's daily bar holds auctions that its minutes do not.
    """
    if interval.step is None or interval.step >= timedelta(days=1):
        return None
    finer = [
        other
        for other in INTERVALS.values()
        if other.step and other.step < interval.step and not interval.step % other.step
    ]
    return next((other for other in finer if lake.bars_version(other.name) is not None), None)


def finer_bars(
    lake: Lake, symbol: str, interval: Interval, start: datetime, end: datetime, calendar: TradingCalendar
) -> pl.DataFrame | None:
    """Return bars of `interval` made out of a finer table, only those whose finer bars are all there."""
    finer = finer_interval(lake, interval)
    if finer is None:
        return None
    bars = lake.read_bars(symbol, finer.name, start, end)
    expected = calendar.expected_opens(finer.name, start, end)
    return resample(bars, expected, interval)


def resample(bars: pl.DataFrame, expected: pl.Series, interval: Interval) -> pl.DataFrame:
    """Return bars of `interval` out of sorted finer ones; a bar with fewer finer bars than expected is left out."""
    slot = pl.col("timestamp").dt.truncate(interval.name)
    needed = pl.DataFrame({"timestamp": expected}).group_by(slot).agg(needed=pl.len())
    made = bars.group_by(slot, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume", "quote_volume").sum(),
        found=pl.len(),
    )
    return made.join(needed, on="timestamp").filter(pl.col("found") == pl.col("needed")).select(list(BARS))
