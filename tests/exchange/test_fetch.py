"""Many windows from one source."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import polars as pl
import pytest

from lake.schema import BARS
from tasks.errors import TransientError
from tasks.exchange.fetch import Confirmed, fetch_whole, iter_confirmed, iter_pages
from tasks.exchange.page import Page, checked_page, grid_opens
from tasks.exchange.request import Window, plan_windows, slots
from tests.exchange.conftest import MINUTE, NOW, START


class Vendor:
    """A source whose bars are known, and that serves some of them late, never, or with two values."""

    page_bars = 100

    def __init__(self, absent: dict[int, int] | None = None, torn: set[int] | None = None) -> None:
        self.requests = 0
        self.asked: list[Window] = []
        self.running = self.most_running = 0
        self._absent = {START + minute * MINUTE: times for minute, times in (absent or {}).items()}
        self._torn = {START + minute * MINUTE for minute in torn or ()}

    async def fetch_page(self, symbol: str, interval_name: str, window: Window, *, now: datetime) -> Page:
        """Serve the window, later windows sooner than earlier ones."""
        self.requests += 1
        self.asked.append(window)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        await asyncio.sleep(0.001 if self.requests % 2 else 0)
        self.running -= 1
        opens = [opened for opened in grid_opens(interval_name, window.start, window.end) if self._served(opened)]
        rows = pl.DataFrame({"timestamp": opens} | dict.fromkeys(list(BARS)[1:], 1.0), schema=BARS)
        torn = rows.filter(pl.col("timestamp").is_in(list(self._torn))).with_columns(close=2.0)
        self._torn.clear()
        rows = pl.concat([rows.head(1_000), torn])
        limit = min(slots(interval_name, window), 1_000)
        return checked_page(rows, symbol=symbol, interval_name=interval_name, window=window, limit=limit, now=now)

    def _served(self, opened: datetime) -> bool:
        self._absent[opened] = self._absent.get(opened, 0) - 1
        return self._absent[opened] < 0


async def fetched(vendor: Vendor, bars: int, confirmations: int = 2, **options: object) -> list[Confirmed]:
    """Fetch that many minutes and return the windows."""
    end = START + bars * MINUTE
    found = iter_confirmed(vendor, "X", "1m", START, end, now=NOW, confirmations=confirmations, **options)  # type: ignore[arg-type]
    return [one async for one in found]


def opens_of(found: list[Confirmed]) -> list[datetime]:
    """Return every open fetched, in the order it came."""
    return [opened for one in found for opened in one.page.bars["timestamp"]]


async def test_pages_come_in_order_and_few_at_a_time() -> None:
    """Whichever answer comes first, pages are yielded oldest first, with at most so many requests in flight."""
    vendor = Vendor()
    found = await fetched(vendor, 1_000, concurrency=3)
    assert opens_of(found) == [START + i * MINUTE for i in range(1_000)]
    assert (vendor.requests, vendor.most_running) == (10, 3)


async def test_a_short_page_is_asked_again_for_its_holes_only() -> None:
    """Bars left out once come with the second ask, which covers only the holes."""
    vendor = Vendor(absent={150: 1, 170: 1})
    found = await fetched(vendor, 300)
    assert opens_of(found) == [START + i * MINUTE for i in range(300)]
    assert Window(START + 150 * MINUTE, START + 171 * MINUTE) in vendor.asked
    assert vendor.requests == 4


@pytest.mark.parametrize(("confirmations", "requests"), [(1, 3), (2, 4), (4, 6)])
async def test_what_stays_absent_is_reported(confirmations: int, requests: int) -> None:
    """An absent bar is asked for as often as configured, then listed as missing: never taken for the end of data."""
    vendor = Vendor(absent={299: 99})
    found = await fetched(vendor, 300, confirmations)
    assert [opened for one in found for opened in one.missing] == [START + 299 * MINUTE]
    assert vendor.requests == requests


async def test_a_bar_with_two_values_is_asked_again() -> None:
    """A conflict heals like a hole: the second, single value is kept and the conflict forgotten."""
    found = await fetched(Vendor(torn={5}), 100)
    assert opens_of(found) == [START + i * MINUTE for i in range(100)]
    assert found[0].page.conflicts == ()
    assert found[0].missing.is_empty()


async def test_closed_markets_are_no_holes() -> None:
    """With the market's own opens, bars outside its hours are not asked for again."""
    vendor = Vendor(absent=dict.fromkeys(range(50, 100), 99))
    await fetched(vendor, 100, expected=grid_opens("1m", START, START + 50 * MINUTE))
    assert vendor.requests == 1


async def test_a_page_that_may_be_cut_is_asked_in_halves() -> None:
    """A full page of a window that could hold more is not believed; its halves are, and nothing is lost or doubled."""
    vendor, opens = Vendor(), grid_opens("1m", START, START + 3_000 * MINUTE)
    page = await fetch_whole(vendor, "X", "1m", Window(START, START + 3_000 * MINUTE), expected=opens, now=NOW)
    assert page.bars["timestamp"].to_list() == [START + i * MINUTE for i in range(3_000)]
    assert page.conclusive
    assert vendor.requests == 7


async def test_only_closed_bars_are_asked_for() -> None:
    """The range is cut at the bar that still forms."""
    vendor = Vendor()
    now = START + 150 * MINUTE + timedelta(seconds=30)
    found = iter_confirmed(vendor, "X", "1m", START, START + 300 * MINUTE, now=now)
    assert opens_of([one async for one in found])[-1] == START + 149 * MINUTE
    assert vendor.asked[-1].end == START + 150 * MINUTE


async def test_a_range_in_the_future_asks_nothing() -> None:
    """Nothing has closed, so that nothing is asked."""
    vendor = Vendor()
    found = iter_confirmed(vendor, "X", "1m", NOW, NOW + 10 * MINUTE, now=START)
    assert [one async for one in found] == []
    assert vendor.requests == 0


async def test_a_failed_page_cancels_what_is_in_flight() -> None:
    """An error reaches the reader at its page; no request goes on behind its back."""
    left: list[str] = []

    class Failing(Vendor):
        async def fetch_page(self, symbol: str, interval_name: str, window: Window, *, now: datetime) -> Page:
            if window.start == START:
                raise TransientError("first page")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                left.append("cancelled")
                raise
            raise AssertionError("unreachable")

    windows, opens = plan_windows("1m", START, START + 300 * MINUTE, 100), grid_opens("1m", START, NOW)
    with pytest.raises(TransientError, match="first page"):
        async for _ in iter_pages(Failing(), "X", "1m", windows, expected=opens, now=NOW, concurrency=3):
            pass
    assert left == ["cancelled", "cancelled"]
