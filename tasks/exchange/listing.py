"""When trading began: told apart from bars that are missing, and put on record for everyone who counts them."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from lake.absences import Reason
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.store import Lake

#: A shorter silence before the first bar may be a hole at the start of the range; it stays reported as one.
_SHORTEST = timedelta(days=1)
_SILENT = (Reason.VENDOR_EMPTY.value, Reason.MARKET_CLOSED.value)


def record_listing(
    lake_root: str, symbol: str, interval: str, start: datetime, end: datetime, calendar: str = "always_open"
) -> datetime | None:
    """Record where a symbol's history begins, and return it; None where the range does not show it.

    It begins at the first bar of ``[start, end)`` if the vendor has confirmed that it has none for a day or more before
    it, and the lake has none before `start`.

    Args:
        lake_root: Where the lake is.
        symbol: In the vendor's spelling.
        interval: Our spelling.
        start: First open that was asked for.
        end: Exclusive.
        calendar: When the market trades, as `TradingCalendar.parse` reads it.
    """
    lake = Lake(lake_root)
    first = lake.scan_bars(interval, [symbol], end=end).select(pl.col("timestamp").min()).collect().item()
    if first is None or first - start < _SHORTEST:
        return None
    ledger = Ledger(lake)
    before = ledger.absences(symbol, interval, start, first, calendar=TradingCalendar.parse(calendar))
    if not set(before["reason"]) <= set(_SILENT) or Reason.VENDOR_EMPTY.value not in set(before["reason"]):
        return None
    ledger.record_listing(symbol, interval, first)
    return first
