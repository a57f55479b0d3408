"""Longer bars made from shorter ones in the lake: only complete ones, only closed ones, corrections carried through."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from lake.absences import TO_FETCH, Reason
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.schema import BARS
from lake.timeline import Interval
from lake.timeline import interval as interval_named
from lake.writes import WriteReceipt
from tasks.errors import InputError

if TYPE_CHECKING:
    from lake.store import Lake

_OPEN = TradingCalendar.always_open()

#: Reasons for which a bar may still come, so that a longer bar over it is not complete.
_PENDING = (*TO_FETCH, Reason.NOT_CLOSED, Reason.BEYOND_HISTORY)


def resample(
    lake: Lake,
    symbol: str,
    source: str,
    target: str,
    start: datetime,
    end: datetime,
    *,
    calendar: TradingCalendar = _OPEN,
    ledger: Ledger | None = None,
) -> WriteReceipt:
    """Write the `target` bars that lie in ``[start, end)`` and are complete, made from the lake's `source` bars.

    A bar is complete when each `source` bar in it is there or will never come (market closed, before listing, confirmed
    empty). Run again after a correction, it corrects the longer bar and records that too.

    Raises:
        InputError: `source` does not divide `target`.
    """
    shorter, longer = _checked(source, target)
    first, last = longer.ceil(start), longer.floor(end)
    # A trading day may begin on the evening before its date and end on the morning after.
    margin = timedelta(0) if calendar.never_closes else timedelta(days=1)
    bars = lake.read_bars(symbol, source, first - margin, last + margin)
    known = ledger or Ledger(lake)
    absent = known.absences(symbol, source, first - margin, last + margin, calendar=calendar)
    # Daily bars and longer ones are dated by trading day already.
    days = _OPEN if shorter.step is None or shorter.step >= timedelta(days=1) else calendar
    incomplete = _opens_of(absent.filter(pl.col("reason").is_in(_PENDING)), shorter, target, days)
    closed = longer.closed_end(lake.now())
    made = aggregate(bars, target, days).filter(
        (pl.col("timestamp") >= first)
        & (pl.col("timestamp") < min(last, closed))
        & ~pl.col("timestamp").is_in(incomplete.implode())
    )
    return lake.write_bars(made, symbol=symbol, interval=target, start=first, end=max(first, last))


def aggregate(bars: pl.DataFrame, target: str, calendar: TradingCalendar = _OPEN) -> pl.DataFrame:
    """Return `bars` joined into longer ones, complete or not: first open, highest, lowest, last close, summed volumes.

    `quote_volume` is null where one of its parts is.
    """
    return (
        bars.with_columns(timestamp=calendar.bar_of(target, bars["timestamp"]))
        .drop_nulls("timestamp")
        .group_by("timestamp", maintain_order=True)
        .agg(
            pl.first("open"),
            pl.max("high"),
            pl.min("low"),
            pl.last("close"),
            pl.sum("volume"),
            pl.when(pl.col("quote_volume").is_null().any())
            .then(None)
            .otherwise(pl.sum("quote_volume"))
            .alias("quote_volume"),
        )
        .select(list(BARS))
    )


def _checked(source: str, target: str) -> tuple[Interval, Interval]:
    shorter, longer = interval_named(source), interval_named(target)
    day = timedelta(days=1)
    step, length = shorter.step, longer.step or day  # every month is whole days
    if step is None or step >= (longer.step or 28 * day) or length % step:
        raise InputError(
            f"resample: expected a source that divides {target}, found {source}; 1m divides every interval"
        )
    return shorter, longer


def _opens_of(ranges: pl.DataFrame, shorter: Interval, target: str, calendar: TradingCalendar) -> pl.Series:
    """Return the opens of the target bars that hold any `shorter` open of the ranges."""
    parts = [
        calendar.bar_of(target, _OPEN.expected_opens(shorter.name, start, end)).unique()
        for start, end in ranges.select("start", "end").iter_rows()
    ]
    return pl.concat([pl.Series(dtype=BARS["timestamp"]), *parts]).drop_nulls().unique()
