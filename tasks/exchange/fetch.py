"""Fetch many windows from one source: bounded concurrency, pages in order, short pages asked again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import polars as pl

from lake.timeline import interval
from tasks.exchange.page import Page, grid_opens, missing_opens
from tasks.exchange.request import Window, halves, plan_windows
from tasks.exchange.source import BarSource

T = TypeVar("T")


@dataclass(frozen=True)
class Confirmed:
    """A window after its holes were asked for again.

    Attributes:
        page: All bars found, with the counts of every answer added up.
        missing: Opens that were expected and that no answer held: a sorted Series.
    """

    page: Page
    missing: pl.Series


async def iter_pages(
    source: BarSource,
    symbol: str,
    interval_name: str,
    windows: Iterable[Window],
    *,
    expected: pl.Series,
    now: datetime,
    concurrency: int,
) -> AsyncIterator[Page]:
    """Yield the page of each window, in the order of `windows`, with at most `concurrency` requests in flight.

    A failed page raises at its place; requests still in flight are cancelled then, and when the reader stops early.
    """

    async def fetch(window: Window) -> Page:
        return await fetch_whole(source, symbol, interval_name, window, expected=expected, now=now)

    async for page in _in_order((fetch(window) for window in windows), concurrency):
        yield page


async def fetch_whole(
    source: BarSource, symbol: str, interval_name: str, window: Window, *, expected: pl.Series, now: datetime
) -> Page:
    """Return a page of the window whose lack of a bar means that the vendor lacks it.

    A page that may have been cut and lacks an expected bar is asked again in halves: the vendor had more bars there
    than its market's calendar lets expect, and does not say which of them it keeps.
    """
    page = await source.fetch_page(symbol, interval_name, window, now=now)
    if page.conclusive or missing_opens(page, expected).is_empty():
        return page
    whole = replace(page, bars=page.bars.clear(), conclusive=True)
    for half in halves(interval_name, window):
        part = await fetch_whole(source, symbol, interval_name, half, expected=expected, now=now)
        whole = _joined(whole, part)
    return whole


async def iter_confirmed(
    source: BarSource,
    symbol: str,
    interval_name: str,
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    expected: pl.Series | None = None,
    confirmations: int = 2,
    concurrency: int = 8,
) -> AsyncIterator[Confirmed]:
    """Yield the windows of ``[start, end)``, clamped to bars that are closed at `now`, holes asked for again.

    Args:
        source: The vendor.
        symbol: In the vendor's spelling.
        interval_name: Our spelling.
        start: First open.
        end: Exclusive.
        now: The market's present.
        expected: Opens at which the market trades; None where it never closes.
        confirmations: Answers that must lack a bar before it is reported as missing.
        concurrency: Requests in flight at most.
    """
    end = min(end, interval(interval_name).closed_end(now))
    opens = grid_opens(interval_name, start, end) if expected is None else expected

    async def fetch(window: Window) -> Confirmed:
        return await _confirm(source, symbol, interval_name, window, opens, now=now, confirmations=confirmations)

    windows = plan_windows(interval_name, start, max(start, end), source.page_bars)
    async for confirmed in _in_order((fetch(window) for window in windows), concurrency):
        yield confirmed


async def _confirm(
    source: BarSource,
    symbol: str,
    interval_name: str,
    window: Window,
    opens: pl.Series,
    *,
    now: datetime,
    confirmations: int,
) -> Confirmed:
    page = await fetch_whole(source, symbol, interval_name, window, expected=opens, now=now)
    missing = missing_opens(page, opens)
    for _ in range(confirmations - 1):
        if missing.is_empty():
            break
        holes = Window(missing[0], interval(interval_name).next(missing[-1]))
        page = _joined(page, await fetch_whole(source, symbol, interval_name, holes, expected=opens, now=now))
        missing = missing_opens(page, opens)
    return Confirmed(page, missing)


def _joined(page: Page, again: Page) -> Page:
    """Return the page with what a second answer added; where both hold a bar, the newer answer wins."""
    bars = pl.concat([again.bars, page.bars]).unique("timestamp", keep="first").sort("timestamp")
    return replace(
        page,
        bars=bars,
        served=page.served + again.served,
        unclosed=page.unclosed + again.unclosed,
        duplicates=page.duplicates + again.duplicates,
        conflicts=tuple(t for t in page.conflicts if t not in again.bars["timestamp"]),
        reordered=page.reordered or again.reordered,
        size_bytes=page.size_bytes + again.size_bytes,
    )


async def _in_order(jobs: Iterable[Coroutine[Any, Any, T]], concurrency: int) -> AsyncIterator[T]:
    """Yield the results of coroutines in their order while at most `concurrency` of them run."""
    running: deque[asyncio.Future[T]] = deque()
    try:
        for job in jobs:
            running.append(asyncio.ensure_future(job))
            if len(running) >= concurrency:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
