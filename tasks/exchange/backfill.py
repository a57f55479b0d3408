"""From a vendor into the lake: ask for what the ledger cannot explain, write it, record what the vendor lacks.

One call handles one partition (a month of minutes) of one symbol:

1. the ledger names the absent bars that nothing explains, and `plan` packs them into requests;
2. pages are fetched side by side, each spooled to disk as it comes;
3. the spooled pages become one commit, then the vendor's silence about the bars still absent is recorded under the
   answers' names, then the spool is dropped. A process killed between any two of these steps costs the requests in
   flight: whoever comes next writes and records the same again, and neither changes anything the second time;
4. again from 1, until every absent bar is explained. Bars that a full answer lacked are asked for as often as the
   source's `confirmations` say, then never again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

import polars as pl
import structlog
from filelock import AsyncFileLock

from lake.absences import TO_FETCH, Reason, to_fetch
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.store import Lake, WriteReceipt
from lake.timeline import interval as grid_of
from lake.timeline import utc
from tasks.errors import KlinehouseError, TransientError
from tasks.exchange.fetch import iter_pages
from tasks.exchange.page import Page, missing_opens
from tasks.exchange.plan import BackfillPlan, PlanLine, Range, pack_windows, plan_line
from tasks.exchange.receipt import BackfillReceipt, Counts, PageProgress, Progress
from tasks.exchange.request import PAGE_BARS, Window
from tasks.exchange.source import BarSource, SourceSettings, open_source, scratch_folder
from tasks.exchange.spool import Spool, Spooled

log = structlog.get_logger(__name__)

#: Absent bars that nothing explains yet.
_WANTED = pl.col("reason").is_in([reason.value for reason in TO_FETCH])
#: Absent bars that a receipt lists: the market was open, and the bar is not there.
_UNEXPECTED = (Reason.VENDOR_EMPTY, Reason.TO_RETRY, Reason.NOT_FETCHED)


async def backfill_range(
    lake_root: str,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    source: SourceSettings,
    *,
    calendar: str = "always_open",
    refresh: bool = False,
    revisit: timedelta | None = None,
    progress: Progress | None = None,
) -> BackfillReceipt:
    """Bring the bars of ``[start, end)`` into the lake and account for every absent one.

    Bars that have not closed are not asked for. A second call asks for nothing that the first one settled.

    Args:
        lake_root: Where the lake is.
        symbol: In the vendor's spelling.
        interval: Our spelling.
        start: First open.
        end: Exclusive; a partition (`lake.timeline.partitions`) or less.
        source: Which vendor, with which key, how fast.
        calendar: When the market trades, as `TradingCalendar.parse` reads it.
        refresh: Ask for bars that are there too, so that the vendor's corrections arrive.
        revisit: The same for the bars of so long before the present, where most corrections happen.
        progress: Called after every page.

    Raises:
        KlinehouseError: By cure. Pages fetched before the failure are in the lake.
    """
    job = Backfill(Lake(lake_root), lake_root, symbol, interval, utc(start), utc(end), source, calendar)
    return await job.run(job.again_from(refresh=refresh, revisit=revisit), progress)


def plan_backfill(
    lake_root: str,
    symbols: Sequence[str],
    interval: str,
    start: datetime,
    end: datetime,
    source: SourceSettings,
    *,
    calendars: Sequence[str] | None = None,
    refresh: bool = False,
    revisit: timedelta | None = None,
    page_bars: int = PAGE_BARS,
) -> BackfillPlan:
    """Return what a backfill of these symbols would ask for now; nothing is sent.

    Args:
        lake_root: Where the lake is.
        symbols: In the vendor's spelling.
        interval: Our spelling.
        start: First open.
        end: Exclusive.
        source: Which vendor, how fast.
        calendars: When each symbol's market trades; None where none of them ever closes.
        refresh: As in `backfill_range`.
        revisit: As in `backfill_range`.
        page_bars: The most bars a page of the vendor holds.
    """
    lake = Lake(lake_root)
    lines: list[PlanLine] = []
    for symbol, calendar in zip(symbols, calendars or ["always_open"] * len(symbols), strict=True):
        job = Backfill(lake, lake_root, symbol, interval, utc(start), utc(end), source, calendar)
        wanted = job.wanted(job.absences(), job.again_from(refresh=refresh, revisit=revisit))
        lines.append(plan_line(symbol, interval, wanted, job.expected, page_bars))
    return BackfillPlan(tuple(lines), source.requests_per_minute)


class Backfill:
    """One partition of one symbol on its way into the lake.

    Attributes:
        expected: Every open at which the market trades in the range.
    """

    def __init__(
        self,
        lake: Lake,
        lake_root: str,
        symbol: str,
        interval: str,
        start: datetime,
        end: datetime,
        source: SourceSettings,
        calendar: str,
    ) -> None:
        self._lake, self._source = lake, source
        self._key = (symbol, interval)
        self._ledger = Ledger(lake, confirmations=source.confirmations)
        self._calendar = TradingCalendar.parse(calendar)
        self._now = source.clock()
        self._start, self._end = start, end
        self._scratch = scratch_folder(source, lake_root) / interval / quote(symbol, safe="")
        self._spool = Spool(self._scratch / f"{start:%Y%m%dT%H%M}-{end:%Y%m%dT%H%M}.pages")
        self._counts = Counts()
        self._closed = max(start, min(end, grid_of(interval).closed_end(self._now)))
        self.expected = self._calendar.expected_opens(interval, start, self._closed)

    async def run(self, again_from: datetime | None = None, progress: Progress | None = None) -> BackfillReceipt:
        """Fetch, write and record until every absent bar is explained; from `again_from` on, present bars as well."""
        began = time.monotonic()
        self._scratch.mkdir(parents=True, exist_ok=True)
        async with AsyncFileLock(self._scratch / f"{self._start:%Y%m%dT%H%M}.lock"):
            await self._commit(list(self._spool.pages()))  # what a killed run left
            absent = self.absences()
            ranges = self.wanted(absent, again_from)
            if ranges:
                absent = await self._fetch_all(absent, ranges, progress)
        symbol, interval = self._key
        receipt = self._counts.receipt(
            symbol, interval, self._start, self._end, _unexpected(absent), time.monotonic() - began
        )
        log.info("partition.backfilled", symbol=symbol, interval=interval, start=self._start, **self._counts.summary())
        return receipt

    def absences(self) -> pl.DataFrame:
        """Return every absent bar of the range with its reason, as `Ledger.absences` does."""
        return self._ledger.absences(*self._key, self._start, self._end, calendar=self._calendar, now=self._now)

    def again_from(self, *, refresh: bool, revisit: timedelta | None) -> datetime | None:
        """Return the open from which on bars that are there are asked for too, None for none of them."""
        if refresh:
            return self._start
        return None if not revisit else grid_of(self._key[1]).ceil(self._now - revisit)

    def wanted(self, absent: pl.DataFrame, again_from: datetime | None) -> list[Range]:
        """Return what to ask for first: absent bars that nothing explains, and all closed ones from `again_from` on."""
        ranges = to_fetch(absent)
        if again_from is None or again_from >= self._closed:
            return ranges
        again = max(again_from, self._start)
        before = [(start, min(end, again)) for start, end in ranges if start < again]
        return [*before, (again, self._closed)] if again < self._closed else before

    async def _fetch_all(self, absent: pl.DataFrame, ranges: list[Range], progress: Progress | None) -> pl.DataFrame:
        async with open_source(self._source) as vendor:
            # Each round confirms what the last one did not find; one more heals bars that came with two values.
            for _ in range(self._source.confirmations + 1):
                if not ranges:
                    break
                windows = pack_windows(self._key[1], ranges, self.expected, vendor.page_bars)
                whole = await self._round(vendor, windows, progress)
                absent = absent.filter(~_WANTED) if whole else self.absences()
                ranges = to_fetch(absent)
            self._counts.requests = vendor.requests
        return absent

    async def _round(self, vendor: BarSource, windows: list[Window], progress: Progress | None) -> bool:
        """Fetch the windows, commit them, return whether they lacked nothing; after a failure, commit what came."""
        symbol, interval = self._key
        pages: list[Spooled] = []
        try:
            async for page in iter_pages(
                vendor,
                symbol,
                interval,
                windows,
                expected=self.expected,
                now=self._now,
                concurrency=self._source.concurrency,
            ):
                pages.append(self._spool.save(page, self._now))
                self._counts.add(page)
                if progress is not None:
                    progress(PageProgress(symbol, self._counts.rows, vendor.requests, len(pages), len(windows)))
        except KlinehouseError as error:
            await self._commit(pages)
            if isinstance(error, TransientError):
                failed = windows[len(pages)]
                self._ledger.record_failure(symbol, interval, failed.start, failed.end, detail=type(error).__name__)
            raise
        return await self._commit(pages)

    async def _commit(self, pages: list[Spooled]) -> bool:
        """Write the pages, record for which times the vendor had no more than these, drop them from the spool.

        The lake is written in a thread of its own: other partitions decode their pages meanwhile.

        Returns:
            Whether the pages lacked nothing that was expected.
        """
        if not pages:
            return True
        bars = _merged([one.page.bars for one in pages])
        if not bars.is_empty():
            self._counts.add_write(await asyncio.to_thread(self._write, bars))
        short = [one for one in pages if not missing_opens(one.page, self.expected).is_empty()]
        if short:
            await asyncio.to_thread(self._record, short)
        self._spool.clear()
        return not short

    def _write(self, bars: pl.DataFrame) -> WriteReceipt:
        symbol, interval = self._key
        first, last = bars["timestamp"][0], grid_of(interval).next(bars["timestamp"][-1])
        return self._lake.write_bars(bars, symbol=symbol, interval=interval, start=first, end=last)

    def _record(self, short: list[Spooled]) -> None:
        """Record the bars that answers lacked, and none that came; a bar with two values was not answered."""
        symbol, interval = self._key
        for asked_at in sorted({one.asked_at for one in short}):
            answers = [one for one in short if one.asked_at == asked_at]
            ranges = [part for one in answers for part in _lacked(one.page, self.expected, interval)]
            once = hashlib.sha256("".join(one.name for one in answers).encode()).hexdigest()[:24]
            self._ledger.record_answers(symbol, interval, ranges, asked_at=asked_at, once=once)
        for opened in sorted({opened for one in short for opened in one.page.conflicts}):
            after = grid_of(interval).next(opened)
            self._ledger.record_failure(symbol, interval, opened, after, detail="served with two values")


def _merged(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return pages as one sorted frame; where windows overlap, the later window's bar is kept."""
    bars = pl.concat(parts)
    moments = bars["timestamp"].to_numpy()
    if (moments[1:] > moments[:-1]).all():  # the usual case; sorting would cost as much as parsing
        return bars
    return bars.unique("timestamp", keep="last").sort("timestamp")


def _lacked(page: Page, expected: pl.Series, interval: str) -> list[Range]:
    """Return the runs of expected bars that a page does not hold; of a bar with two values it says nothing."""
    missing, runs = missing_opens(page, expected), list[Range]()
    for opened in missing.filter(~missing.is_in(list(page.conflicts))) if page.conflicts else missing:
        start = runs.pop()[0] if runs and runs[-1][1] == opened else opened
        runs.append((start, grid_of(interval).next(opened)))
    return runs


def _unexpected(absent: pl.DataFrame) -> tuple[Range, ...]:
    rows = absent.filter(pl.col("reason").is_in([reason.value for reason in _UNEXPECTED]))
    return tuple(rows.select("start", "end").iter_rows())
