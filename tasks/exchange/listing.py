"""When trading began: told apart from bars that are missing, and put on record for everyone who counts them."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from lake.absences import Reason
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import interval as grid_of
from tasks.exchange.request import Window
from tasks.exchange.source import SourceSettings, open_source

_SILENT = {Reason.VENDOR_EMPTY.value, Reason.MARKET_CLOSED.value}


async def record_listing(
    lake_root: str,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    source: SourceSettings,
    calendar: str = "always_open",
) -> datetime | None:
    """Record where a symbol's history begins, and return it; None where it does not begin in ``[start, end)``.

    It does if the vendor confirmed that it has nothing from `start` to the first bar, and has nothing on the page
    before `start` either: one request, sent only while the beginning is unknown. Otherwise the silence is a hole, and
    stays reported as one.

    Args:
        lake_root: Where the lake is.
        symbol: In the vendor's spelling.
        interval: Our spelling.
        start: First open that was asked for.
        end: Exclusive.
        source: Which vendor, with which key, how fast.
        calendar: When the market trades, as `TradingCalendar.parse` reads it.

    Raises:
        KlinehouseError: By cure; the vendor could not be asked.
    """
    lake = Lake(lake_root)
    first = lake.scan_bars(interval, [symbol], end=end).select(pl.col("timestamp").min()).collect().item()
    if first is None or first <= start:
        return None
    ledger = Ledger(lake)
    before = ledger.absences(symbol, interval, start, first, calendar=TradingCalendar.parse(calendar))
    reasons = set(before["reason"])
    if (
        not reasons <= _SILENT
        or Reason.VENDOR_EMPTY.value not in reasons
        or await _trades(symbol, interval, start, source)
    ):
        return None
    ledger.record_listing(symbol, interval, first)
    return first


async def _trades(symbol: str, interval: str, before: datetime, source: SourceSettings) -> bool:
    """Return whether the vendor has a bar on the page that ends at `before`."""
    step = grid_of(interval).step or timedelta(days=28)
    async with open_source(source) as vendor:
        window = Window(grid_of(interval).floor(before - step * vendor.page_bars), grid_of(interval).ceil(before))
        page = await vendor.fetch_page(symbol, interval, window, now=source.clock())
    return page.served > 0
