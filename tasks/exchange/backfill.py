"""From a vendor into the lake: fetch the pages of a range, write them once, account for every absent bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import structlog

from lake.schema import BARS
from lake.store import Lake
from lake.timeline import interval as grid_of
from lake.timeline import utc
from tasks.exchange.fetch import Confirmed, iter_confirmed
from tasks.exchange.source import SourceSettings, open_source

log = structlog.get_logger(__name__)

Range = tuple[datetime, datetime]


@dataclass(frozen=True)
class PageProgress:
    """What was done so far, after a page.

    Attributes:
        symbol: Whose bars.
        rows: Bars fetched.
        requests: Requests sent.
        done: The exclusive end of what was fetched.
        end: Where the range ends.
    """

    symbol: str
    rows: int
    requests: int
    done: datetime
    end: datetime


Progress = Callable[[PageProgress], None]


@dataclass(frozen=True)
class BackfillReceipt:
    """What a backfill did.

    Attributes:
        symbol: Whose bars.
        interval: Our spelling.
        start: First open asked for.
        end: Exclusive.
        rows: Bars fetched.
        rows_new: Bars the lake did not have.
        rows_revised: Bars the lake had with other values.
        requests: Requests sent, retries included.
        seconds: Wall time.
        missing: Ranges of expected bars that no answer held.
        unclosed: Rows dropped because their bar had not closed.
        duplicates: Rows dropped because they repeated another exactly.
        conflicts: Bars served with two different values; they count as missing.
    """

    symbol: str
    interval: str
    start: datetime
    end: datetime
    rows: int
    rows_new: int
    rows_revised: int
    requests: int
    seconds: float
    missing: tuple[Range, ...] = ()
    unclosed: int = 0
    duplicates: int = 0
    conflicts: int = 0


async def fetch_month(
    lake_root: str,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    source: SourceSettings,
    *,
    expected: pl.Series | None = None,
    progress: Progress | None = None,
) -> BackfillReceipt:
    """Fetch ``[start, end)`` and write it to the lake in one commit.

    Bars that have not closed yet are not asked for. A page with fewer bars than expected is asked for again; what stays
    absent is listed in the receipt.

    Args:
        lake_root: Where the lake is.
        symbol: In the vendor's spelling.
        interval: Our spelling.
        start: First open.
        end: Exclusive.
        source: Which vendor, with which key, how fast.
        expected: Opens at which the market trades; None where it never closes.
        progress: Called after every page.
    """
    began = time.monotonic()
    start, end, found = utc(start), utc(end), []
    async with open_source(source) as vendor:
        async for confirmed in iter_confirmed(
            vendor,
            symbol,
            interval,
            start,
            end,
            now=source.clock(),
            expected=expected,
            confirmations=source.confirmations,
            concurrency=source.concurrency,
        ):
            found.append(confirmed)
            if progress is not None:
                rows = sum(one.page.bars.height for one in found)
                progress(PageProgress(symbol, rows, vendor.requests, confirmed.page.window.end, end))
        requests = vendor.requests
    receipt = _write(lake_root, symbol, interval, start, end, found, requests, time.monotonic() - began)
    log.info(
        "month.fetched", symbol=symbol, interval=interval, start=start.isoformat(), rows=receipt.rows, requests=requests
    )
    return receipt


def _write(
    lake_root: str,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    found: list[Confirmed],
    requests: int,
    seconds: float,
) -> BackfillReceipt:
    bars = pl.concat([one.page.bars for one in found]) if found else pl.DataFrame(schema=BARS)
    written = Lake(lake_root).write_bars(bars, symbol=symbol, interval=interval, start=start, end=end)
    absent = pl.concat([one.missing for one in found]) if found else pl.Series("timestamp", [], dtype=BARS["timestamp"])
    return BackfillReceipt(
        symbol,
        interval,
        start,
        end,
        bars.height,
        written.rows_new,
        written.rows_revised,
        requests,
        seconds,
        ranges(absent, interval),
        sum(one.page.unclosed for one in found),
        sum(one.page.duplicates for one in found),
        sum(len(one.page.conflicts) for one in found),
    )


def ranges(opens: pl.Series, interval: str) -> tuple[Range, ...]:
    """Return sorted opens as half-open ranges of neighbours."""
    joined: list[Range] = []
    for opened in opens:
        after = grid_of(interval).next(opened)
        if joined and joined[-1][1] == opened:
            joined[-1] = (joined[-1][0], after)
        else:
            joined.append((opened, after))
    return tuple(joined)
