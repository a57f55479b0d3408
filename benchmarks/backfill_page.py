"""Vendor pages to committed rows, end to end over loopback, against the way the article does it.

Ours is the whole backfill of a quarter, its months side by side as the flow runs them: ledger, plan, shared budget,
typed decoding, page checks, spool, one atomic commit a month. The other side is aiohttp with a session a call, `json`,
`pd.DataFrame`, `to_parquet`: page after page, since it learns where the next page begins from the last bar of this one,
and a file a page. Both sides run on one machine with the market they ask: measure on a quiet one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pandas as pd
import structlog
from pydantic import SecretStr

from benchmarks.local_market import Served, served
from benchmarks.runner import Table
from lake.store import Lake
from lake.timeline import months, to_ms
from tasks.exchange.backfill import backfill_range
from tasks.exchange.source import SourceSettings

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
ROWS = 91 * 1_440
PRICES = ["open", "high", "low", "close", "volume", "quote_volume"]


async def theirs(market: Served, folder: Path) -> None:
    """Fetch the quarter as the article does."""
    since = to_ms(START)
    headers = {"X-API-Key": market.api_key}
    while since < to_ms(END):
        params = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1000", "start_time": str(since)}
        params["end_time"] = str(min(to_ms(END), since + 60_000_000) - 1)
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{market.url}/v1/market/kline", params=params) as response,
        ):
            klines = json.loads(await response.text())["data"]["klines"]
        frame = pd.DataFrame(klines)
        frame["timestamp"] = pd.to_datetime(frame["time"], unit="ms", utc=True)
        frame[PRICES] = frame[PRICES].astype(float)
        frame.drop(columns="time").to_parquet(folder / f"{since}.parquet")
        since = klines[-1]["time"] + 60_000


async def ours(market: Served, folder: Path) -> None:
    """Backfill the quarter into a new lake."""
    source = SourceSettings(
        base_url=market.url,
        api_key=SecretStr(market.api_key),
        requests_per_minute=1_000_000,
        budget_dir=str(folder / "budget"),
    )
    root = str(folder / "lake")
    await asyncio.gather(
        *(backfill_range(root, "BTCUSDT", "1m", start, end, source) for start, end in months(START, END))
    )


def main(repeats: int = 9) -> None:
    """Measure both sides in turn and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    table = Table(f"A quarter of minutes: {ROWS:,} rows, 132 pages")
    with served(("BTCUSDT",), START, END) as market, tempfile.TemporaryDirectory() as folder:

        def run(side) -> Path:
            place = Path(tempfile.mkdtemp(dir=folder))
            asyncio.run(side(market, place))
            return place

        stored = Lake(run(ours) / "lake").read_bars("BTCUSDT", "1m")
        written = pd.concat([pd.read_parquet(path) for path in sorted(run(theirs).glob("*.parquet"))])
        same = stored["close"].to_list() == written["close"].to_list()
        table.figure("both sides hold the same closes", float(same), at_least=1)
        table.compare(
            "vendor page → committed rows, rows a second",
            lambda: run(ours) and None,
            lambda: run(theirs) and None,
            bar=5.0,
            repeats=repeats,
            work=ROWS,
        )
    table.finish()


if __name__ == "__main__":
    main()
