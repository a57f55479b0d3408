"""How much of a metered plan a backfill uses, with one process and with four, and how often it is refused.

The local market meters as the vendor does (an exact rolling window), with a minute that is six seconds long so that the
script need not run for an hour: 600 requests a window. Every process asks for pages as fast as its budget lets it, from
a common start to a common end; what counts is what the market counted.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from benchmarks.local_market import served
from benchmarks.runner import Table
from tasks.exchange.budget import SharedBudget
from tasks.exchange.client import TickDBClient
from tasks.exchange.limiter import Limits, per_minute
from tasks.exchange.request import Window

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=2)
PLAN, LIMIT = "pro", 600
PERIOD_S, WINDOWS = 6.0, 5
#: Long enough for four processes to import what they need.
GET_READY_S = 12.0


def ask(folder: str, url: str, key: str, begin: float, end: float) -> None:
    """Ask for pages from `begin` to `end`, seconds of the monotonic clock."""
    asyncio.run(_ask(folder, url, key, begin, end))


async def _ask(folder: str, url: str, key: str, begin: float, end: float) -> None:
    limits = Limits(LIMIT, PERIOD_S, reserve=per_minute(LIMIT).reserve, lease_s=5.0)
    with closing(SharedBudget(Path(folder), "bench", limits)) as budget:
        async with TickDBClient(
            url, SecretStr(key), requests_per_minute=LIMIT, limiter=budget, timeout_s=5.0
        ) as client:
            await asyncio.sleep(begin - time.monotonic())
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    await asyncio.gather(*(_pages(client) for _ in range(8)))
            except TimeoutError:
                return


async def _pages(client: TickDBClient) -> None:
    page = Window(START, START + timedelta(minutes=100))
    while True:
        await client.fetch_page("BTCUSDT", "1m", page, now=END)


def measured(processes: int) -> tuple[float, int]:
    """Return the share of the allowed requests that were used, and the requests that were refused."""
    context = multiprocessing.get_context("spawn")
    with (
        served(("BTCUSDT",), START, END, plan=PLAN, period_s=PERIOD_S) as market,
        tempfile.TemporaryDirectory() as folder,
    ):
        begin = time.monotonic() + GET_READY_S
        # Just before the last window's slots free again, so that no request of a sixth window is counted.
        end = begin + PERIOD_S * WINDOWS - 0.2
        words = (folder, market.url, market.api_key, begin, end)
        workers = [context.Process(target=ask, args=words) for _ in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        statuses = market.statuses()
    return statuses.get(200, 0) / (LIMIT * WINDOWS), sum(statuses.values()) - statuses.get(200, 0)


def main() -> None:
    """Measure one process, then four, and print the table."""
    table = Table(f"A plan of {LIMIT} requests a window, {WINDOWS} windows")
    for processes, words in ((1, "one process"), (4, "four processes")):
        used, refused = measured(processes)
        table.figure(f"allowed requests used, {words}", used, at_least=0.97, detail="as the market counted them")
        table.figure(f"requests refused (429), {words}", refused, at_most=0)
    table.finish()


if __name__ == "__main__":
    main()
