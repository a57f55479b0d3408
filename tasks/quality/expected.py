"""Which bars are expected: the calendar's, from the day trading began."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import polars as pl

from lake.calendar import TradingCalendar


def listings(records: pl.DataFrame) -> dict[str, datetime]:
    """Return when trading began, by symbol, out of the coverage ledger's records."""
    return dict(records.filter(pl.col("kind") == "listed").select("symbol", "end").iter_rows())


def expected_opens(
    calendar: str, interval: str, start: datetime, end: datetime, listed_at: datetime | None = None
) -> pl.Series:
    """Return the opens in ``[start, end)`` that should have a bar.

    Args:
        calendar: As `TradingCalendar.parse` takes it.
        interval: Of the bars.
        start: First instant.
        end: First instant after the range.
        listed_at: When trading began, None where unknown: nothing is expected before.
    """
    opens = _calendar_opens(calendar, interval, start, end)
    return opens if listed_at is None or listed_at <= start else opens.filter(opens >= listed_at)


@lru_cache(maxsize=64)
def _calendar_opens(calendar: str, interval: str, start: datetime, end: datetime) -> pl.Series:
    # fifty symbols of one market share each month's opens
    return TradingCalendar.parse(calendar).expected_opens(interval, start, end)
