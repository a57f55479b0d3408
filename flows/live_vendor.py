"""The vendor as the live flow needs it: where its stream is, and its REST side behind the stream's ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from flows.settings import Settings
from lake.store import Lake
from lake.timeline import INTERVALS, from_ms
from tasks.exchange.budget import SharedBudget
from tasks.exchange.client import TickDBClient
from tasks.exchange.limiter import Priority
from tasks.exchange.source import SourceSettings, open_tickdb
from tasks.stream.messages import Depth, Trade
from tasks.stream.socket import Endpoint

#: A bar is fetched this long after it closed: the vendor needs a moment to complete it.
SETTLE = timedelta(seconds=3)
#: How far back a symbol without bars is fetched, and how far back its newest bar is looked for. What is older is the
#: backfill flow's work.
FIRST_REACH, RESUME_REACH = timedelta(hours=6), timedelta(days=7)
_MONTH = timedelta(days=31)
#: Newest bars that are asked for again with the next: vendors correct them within minutes, and the request is the same.
_AGAIN = 5
#: Trades asked for after a gap, the most that the vendor returns.
REFILLED_TRADES = 1_000
#: How much of the simulated market there is around the start, and how long it takes a fast one to reach the present.
#: Where it begins changes none of its bars: it is the market that research fetched.
_SIMULATED_PAST, _SIMULATED_FUTURE, _CATCHES_UP = timedelta(days=31), timedelta(days=31), timedelta(minutes=1)


class LiveVendor:
    """The vendor's REST side, on the key's shared rate budget and ahead of every backfill.

    Attributes:
        endpoint: Where the stream is.
        limit: Requests a minute.
        now: The market's time; ours, until whoever hears the venue's pongs puts its clock in the place.
        speed: Seconds of the market in one of ours.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client: TickDBClient,
        budget: SharedBudget,
        limit: int,
        now: Callable[[], datetime],
        speed: float,
    ) -> None:
        self.endpoint = endpoint
        self.limit = limit
        self.now, self.speed = now, speed
        self._client = client
        self._budget = budget

    @property
    def used(self) -> int:
        """Requests of the last minute, by every process that uses the key."""
        return self._budget.used()

    async def fill_bars(self, lake: Lake, symbol: str, interval: str, *, least: int = 0) -> int:
        """Write the closed bars that the lake lacks since its newest one; return how many were new.

        The bar still being formed is never asked for; the last few before are asked for again, and corrections kept.

        Args:
            lake: Where they go.
            symbol: Whose.
            interval: Length of a bar.
            least: How many are fetched where the lake has no recent ones, if that reaches back further than usual.
        """
        now = self.now()
        step, end = INTERVALS[interval], INTERVALS[interval].closed_end(now - SETTLE)
        reach = max(FIRST_REACH, least * (step.step or _MONTH))
        newest = await asyncio.to_thread(_newest, lake, symbol, interval, end - max(RESUME_REACH, reach), end)
        if newest is not None and step.next(newest) >= end:
            return 0
        start = step.floor(end - reach if newest is None else newest - (_AGAIN - 1) * (step.step or _MONTH))
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
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    speed: float = 1.0


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
        async with open_tickdb(source) as (client, budget):
            endpoint = Endpoint(addresses.stream, addresses.rest, addresses.key)
            yield LiveVendor(endpoint, client, budget, settings.rate, addresses.now, addresses.speed)


@asynccontextmanager
async def _addresses(settings: Settings, symbols: Sequence[str]) -> AsyncIterator[_Addresses]:
    if settings.market != "simulator":
        yield _Addresses(settings.stream_url, settings.vendor_url, settings.vendor_key())
        return
    from tasks.simulator.clock import MarketClock  # the simulator loads only where it is wanted
    from tasks.simulator.instruments import is_listed
    from tasks.simulator.market import generated
    from tasks.simulator.server import Simulator

    now, speed = datetime.now(UTC), settings.market_speed
    begins = now - (speed - 1) * _CATCHES_UP if speed > 1 else now
    first = INTERVALS["1w"].floor(begins - _SIMULATED_PAST)  # so that its first bar is whole, of every length to a week
    market = generated(symbols=tuple(filter(is_listed, symbols)), start=first, end=now + _SIMULATED_FUTURE)
    clock = MarketClock(begins if speed > 1 else datetime.now(UTC), speed=speed)
    async with Simulator(market, plan=settings.plan, now=clock) as simulator:
        key = SecretStr(simulator.api_key)
        yield _Addresses(simulator.stream_url, simulator.url, key, lambda: from_ms(clock()), speed)


def _newest(lake: Lake, symbol: str, interval: str, start: datetime, end: datetime) -> datetime | None:
    bars = lake.read_bars(symbol, interval, start, end, columns=["timestamp"])
    return bars["timestamp"][-1] if bars.height else None
