"""What a page needs from the lake: verdicts, quarantine, coverage, days. Reads tables by name and writes none."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.schema import TIMESTAMP
from lake.store import Lake
from lake.timeline import interval as interval_named
from tasks.report.coverage import coverage, missing_reasons, near_gaps, quality_days
from tasks.sweep.result import SweepResult

VERDICTS = "quality/verdicts"
RELEASES = "quality/releases"
QUARANTINE = "quality/quarantine"


def span(result: SweepResult) -> tuple[datetime, datetime]:
    """Return the half-open span of the bars a result speaks of."""
    first, last = result.equity.select(pl.col("timestamp").min(), pl.col("timestamp").max().alias("last")).row(0)
    return first, interval_named(result.interval).next(last)


def run_bars(lake: Lake, result: SweepResult) -> pl.DataFrame:
    """Return the bars a run saw: those of its span, in the version of the lake that it read."""
    start, end = span(result)
    version = result.record.get("lake_version")
    known = version if isinstance(version, int) else None
    return lake.read_bars(result.symbol, result.interval, start, end, version=known)


def verdicts(lake: Lake, symbol: str, interval: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the verdicts of the partitions that touch ``[start, end)`` and the reason where a person released one."""
    if not lake.exists(VERDICTS):
        return pl.DataFrame()
    mine = (pl.col("symbol") == symbol) & (pl.col("interval") == interval)
    touching = (pl.col("partition_start") < end) & (pl.col("partition_end") > start)
    found = lake.scan(VERDICTS).filter(mine & touching).collect()
    if not lake.exists(RELEASES):
        return found
    keys = ["symbol", "interval", "partition_start", "content_hash"]
    released = lake.scan(RELEASES).filter(mine).sort("released_at").collect().unique(keys, keep="last")
    return found.join(released.select(*keys, release_reason="reason"), on=keys, how="left")


def quarantined(lake: Lake, symbol: str, interval: str) -> pl.Series:
    """Return the opens of a symbol's bars in quarantine."""
    if not lake.exists(QUARANTINE):
        return pl.Series("timestamp", [], TIMESTAMP)
    mine = (pl.col("symbol") == symbol) & (pl.col("interval") == interval)
    return lake.scan(QUARANTINE).filter(mine).select("timestamp").collect()["timestamp"]


def completeness(lake: Lake, result: SweepResult, bars: pl.DataFrame) -> dict[str, object]:
    """Return the coverage of a run's bars by the calendar of its record, and why each missing bar is missing.

    Bars alone where the record names no calendar.
    """
    name = result.record.get("calendar")
    if not name:
        return {"bars": bars.height}
    calendar = TradingCalendar.parse(name)
    found = coverage(bars, result.interval, calendar)
    if found.get("missing_bars"):
        start, end = span(result)
        absent = Ledger(lake).absences(result.symbol, result.interval, start, end, calendar=calendar)
        expected = calendar.expected_opens(result.interval, start, end)
        found |= {f"missing_{reason}": missing for reason, missing in missing_reasons(bars, expected, absent).items()}
        found |= near_gaps(result.trades, result.equity, bars, expected)
    return found


def run_days(lake: Lake, result: SweepResult, bars: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame | None:
    """Return the quality of each day of a run; None where its record names no calendar."""
    name = result.record.get("calendar")
    if not name:
        return None
    held = quarantined(lake, result.symbol, result.interval)
    return quality_days(bars, result.symbol, result.interval, TradingCalendar.parse(name), judged, held)


def lake_days(lake: Lake, interval: str, start: datetime, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the quality of each day of every symbol in ``[start, end)``, and the verdicts behind it.

    A symbol is measured against the calendar that its latest verdict names; one that was never judged, against a
    market that never closes.
    """
    days, judged = [], []
    for symbol in lake.symbols(interval):
        bars = lake.read_bars(symbol, interval, start, end, columns=["timestamp"])
        found = verdicts(lake, symbol, interval, start, end)
        calendar = found.sort("checked_at")["calendar"][-1] if found.height else "always_open"
        held = quarantined(lake, symbol, interval)
        if bars.height:
            days.append(quality_days(bars, symbol, interval, TradingCalendar.parse(calendar), found, held))
        judged.append(found)
    return _together(days), _together(judged)


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    filled = [frame for frame in frames if frame.height]
    return pl.concat(filled, how="diagonal") if filled else pl.DataFrame()
