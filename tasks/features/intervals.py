"""Bars of a longer interval, and joining them where they are known: only once they have closed.

A bar is labelled by its open, so joining on labels hands a 10:00 hour bar, with its 10:59 close, to the minute of
10:00. Here the join is on availability: a row may see a longer bar that closes no later than the row's own bar.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from lake.timeline import EPOCH, Interval, interval
from tasks.errors import InputError

_EVERY = {"1w": "1w", "1mo": "1mo"}


def close_time(name: str, column: str = "timestamp") -> pl.Expr:
    """Return the exclusive end of the bar that opens at `column`: the first instant at which it may be used."""
    return pl.col(column).dt.offset_by(name)


def _check_longer(name: str, longer: str) -> tuple[Interval, Interval]:
    base, top = interval(name), interval(longer)
    reference = datetime(2024, 2, 1, tzinfo=EPOCH.tzinfo)
    whole = top.step or timedelta(days=1)  # every month is whole days
    if top.next(reference) <= base.next(reference) or (base.step and whole % base.step):
        raise InputError(f"interval: expected a multiple longer than {name}, found {longer}")
    return base, top


def ratio(name: str, longer: str) -> int:
    """Return the most bars of interval `name` that one `longer` bar can hold."""
    base, top = _check_longer(name, longer)
    if base.step is None:
        raise InputError(f"interval: expected one of fixed length, found {name}")
    return (top.step or timedelta(days=31)) // base.step


def resample(bars: pl.DataFrame, name: str, longer: str) -> pl.DataFrame:
    """Return the `longer` bars that the bars hold whole: closed by the last one, not begun before the first.

    Raises:
        InputError: `longer` is not longer than `name`, or no whole number of its bars.
    """
    _check_longer(name, longer)
    if bars.is_empty():
        return bars
    first, known = bars["timestamp"][0], bars.select(close_time(name).last()).item()
    grouped = bars.group_by_dynamic("timestamp", every=longer, closed="left", label="left").agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
        pl.col("quote_volume").sum(),
    )
    return grouped.filter(pl.col("timestamp") >= first, close_time(longer) <= known)


def join_closed(
    bars: pl.DataFrame, name: str, longer_bars: pl.DataFrame, longer: str, columns: dict[str, str]
) -> pl.DataFrame:
    """Return `bars` with columns of the latest longer bar that had closed when each bar closed.

    Args:
        bars: Rows labelled by the open of a bar of interval `name`, sorted.
        name: Their interval.
        longer_bars: Rows labelled by the open of a bar of interval `longer`, sorted.
        longer: Their interval, a multiple of `name`.
        columns: Column of `longer_bars` → its name in the result.

    Returns:
        `bars` and the new columns, null before the first closed longer bar.
    """
    _check_longer(name, longer)
    right = longer_bars.select(close_time(longer).alias("_known"), *(pl.col(a).alias(b) for a, b in columns.items()))
    left = bars.with_columns(close_time(name).alias("_known"))
    return left.join_asof(right, on="_known", strategy="backward").drop("_known")
