"""The vendor as the live flow needs it: where its stream is, and its REST side behind the stream's ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from flows.settings import Settings
from lake.store import Lake
from lake.timeline import INTERVALS
from tasks.exchange.budget import SharedBudget
from tasks.exchange.client import TickDBClient
from tasks.exchange.limiter import Priority, per_minute
from tasks.exchange.source import SourceSettings, shared_budget
from tasks.stream.messages import Depth, Trade
from tasks.stream.socket import Endpoint

#: A bar is fetched this long after it closed: the vendor needs a moment to complete it.
SETTLE = timedelta(seconds=3)
#: How far back a symbol without bars is fetched, and how far back its newest bar is looked for. What is older is the
#: backfill flow's work.
FIRST_REACH, RESUME_REACH = timedelta(hours=6), timedelta(days=7)
#: Trades asked for after a gap, the most that the vendor returns.
REFILLED_TRADES = 1_000
#: The simulated market's history and future around the start.
_SIMULATED_PAST, _SIMULATED_FUTURE = timedelta(hours=12), timedelta(days=2)


class LiveVendor:
    """The vendor's REST side, on the key's shared rate budget and ahead of every backfill.

    Attributes:
        endpoint: Where the stream is.
        limit: Requests a minute.
    """

    def __init__(self, endpoint: Endpoint, client: TickDBClient, budget: SharedBudget, limit: int) -> None:
        self.endpoint = endpoint
        self.limit = limit
        self._client = client
        self._budget = budget

    @property
    def used(self) -> int:
        """Requests of the last minute, by every process that uses the key."""
        return self._budget.used()

    async def fill_bars(self, lake: Lake, symbol: str, interval: str) -> int:
        """Write the closed bars that the lake lacks since its newest one; return how many were new.

        The bar still being formed is never asked for.
        """
        now = datetime.now(UTC)
        step, end = INTERVALS[interval], INTERVALS[interval].closed_end(now - SETTLE)
        newest = await asyncio.to_thread(_newest, lake, symbol, interval, end - RESUME_REACH, end)
        start = step.floor(end - FIRST_REACH) if newest is None else step.next(newest)
        if start >= end:
            return 0
        bars = await self._client.fetch_klines(symbol, interval, start, end, now=now)
        if not bars.height:
            return 0
        receipt = await asyncio.to_thread(lake.write_bars, bars, symbol=symbol, interval=interval, start=start, end=end)
        return receipt.rows_new

    async def recent_trades(self, symbol: str) -> list[Trade]:
        """Return the newest trades, as the stream would have sent them."""
        trades = await self._client.fetch_trades(symbol, REFILLED_TRADES)
        return [Trade(one.id, one.price, one.quantity, one.side, one.timestamp) for one in trades]  # type: ignore[arg-type]

    async def depth(self, symbol: str) -> Depth:
        """Return the book now, as the stream would have sent it."""
        book = await self._client.fetch_depth(symbol)
        return Depth(symbol, list(book.bids), list(book.asks), book.timestamp)


@dataclass(frozen=True, slots=True)
class _Addresses:
    stream: str
    rest: str
    key: SecretStr


@asynccontextmanager
async def open_live_vendor(settings: Settings, symbols: Sequence[str]) -> AsyncIterator[LiveVendor]:
    """Yield the vendor for the length of a run; the simulated market lives in this process for as long.

    Raises:
        ConfigurationError: TickDB is wanted and no key is set.
    """
    async with _addresses(settings, symbols) as addresses:
        source = SourceSettings(
            base_url=addresses.rest,
            api_key=addresses.key,
            requests_per_minute=settings.rate,
            budget_dir=str(settings.state_dir / "budget"),
            priority=Priority.RESYNC,
        )
        limits = per_minute(source.requests_per_minute, lease_s=source.timeout_s)
        with closing(shared_budget(source, source.base_url, limits)) as budget:
            async with TickDBClient(
                source.base_url,
                source.api_key,
                requests_per_minute=source.requests_per_minute,
                limiter=budget,
                timeout_s=source.timeout_s,
                priority=source.priority,
            ) as client:
                endpoint = Endpoint(addresses.stream, addresses.rest, addresses.key)
                yield LiveVendor(endpoint, client, budget, settings.rate)


@asynccontextmanager
async def _addresses(settings: Settings, symbols: Sequence[str]) -> AsyncIterator[_Addresses]:
    if settings.market != "simulator":
        yield _Addresses(settings.stream_url, settings.vendor_url, settings.vendor_key())
        return
    from tasks.simulator.clock import MarketClock  # the simulator loads only where it is wanted
    from tasks.simulator.market import generated
    from tasks.simulator.server import Simulator

    now = datetime.now(UTC)
    first = (now - _SIMULATED_PAST).replace(minute=0, second=0, microsecond=0)
    market = generated(symbols=tuple(symbols), start=first, end=now + _SIMULATED_FUTURE)
    async with Simulator(market, plan=settings.plan, now=MarketClock(datetime.now(UTC))) as simulator:
        yield _Addresses(simulator.stream_url, simulator.url, SecretStr(simulator.api_key))


def _newest(lake: Lake, symbol: str, interval: str, start: datetime, end: datetime) -> datetime | None:
    bars = lake.read_bars(symbol, interval, start, end, columns=["timestamp"])
    return bars["timestamp"][-1] if bars.height else None
