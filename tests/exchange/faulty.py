"""A vendor that lies in every way at once, decided by one seed, and a lake in memory: for many quick backfills."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
from pydantic import SecretStr

from lake.bars import upsert
from lake.schema import BARS
from lake.store import WriteReceipt
from lake.timeline import to_ms
from tasks.errors import TransientError
from tasks.exchange.client import Reply, TickDBClient
from tasks.exchange.limiter import Priority
from tasks.exchange.request import Request
from tasks.exchange.retry import RetryPolicy
from tasks.exchange.source import SourceSettings
from tests.exchange.conftest import MINUTE, START, kline

PAGE_BARS = 60


class FaultyVendor:
    """The network's edge with a vendor behind it; replaces HTTP and nothing else of the client.

    Every bar has a fate: served, lost for ever, late (left out of the first answer that should hold it), torn (served
    with two values the first time) or doubled. Every answer may fail on its way, be cut, shuffled, or carry the bar
    that still forms.

    Attributes:
        asked: Requests that reached it.
        now: The market's present.
        end: End of the range that the test backfills; bars up to `now` exist, some of them beyond it.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.asked = 0
        bars = self._dice.randint(1, 260)
        self.end = START + bars * MINUTE
        self.now = START + timedelta(seconds=self._dice.randint(0, 60 * bars + 600))
        self._trouble = self._dice.choice([0.0, 0.05, 0.3])
        self._end_included, self._descending = self._dice.random() < 0.5, self._dice.random() < 0.3
        self._closed = min((self.now - START) // MINUTE, bars + 5)
        listed = self._dice.choice([0, 0, self._dice.randint(0, bars)])
        fates, weights = ("served", "lost", "late", "torn", "twice"), self._dice.choice(_WEIGHTS)
        drawn = self._dice.choices(fates, weights, k=self._closed)
        self._fates = {minute: fate if minute >= listed else "lost" for minute, fate in enumerate(drawn)}
        self._first = set(self._fates)

    @property
    def truth(self) -> list[datetime]:
        """Opens of the closed bars of the range that the vendor has."""
        return [opened for minute, fate in self._fates.items() if fate != "lost" and (opened := _at(minute)) < self.end]

    @property
    def lost(self) -> list[datetime]:
        """Opens of the closed bars of the range that the vendor lacks for ever."""
        return [opened for minute, fate in self._fates.items() if fate == "lost" and (opened := _at(minute)) < self.end]

    async def get(self, request: Request) -> Reply:
        """Answer, or fail in one of the ways networks and servers do."""
        self.asked += 1
        trouble = self._dice.choice(_TROUBLES) if self._dice.random() < self._trouble else None
        if trouble == "dropped":
            raise TransientError("dropped")
        if trouble == "limited":
            return Reply(429, b'{"code":3001,"message":"slow down"}', {"retry-after": "1"})
        if trouble == "broken":
            return Reply(502, b"<html>bad gateway</html>", {})
        body = self._page(dict(request.params))
        return Reply(200, body[: self._dice.randrange(len(body))] if trouble == "cut" else body, {})

    async def close(self) -> None:
        """Close nothing."""

    def _page(self, params: dict[str, str]) -> bytes:
        first, last = (int(params[name]) - to_ms(START) for name in ("start_time", "end_time"))
        stop = last // 60_000 + 1 if self._end_included or last % 60_000 else last // 60_000
        minutes = [minute for minute in range(-(-first // 60_000), stop) if self._fates.get(minute, "lost") != "lost"]
        rows = [row for minute in minutes[: int(params["limit"])] for row in self._rows(minute)]
        if self._dice.random() < 0.3:
            rows.append(kline((self.now - START) // MINUTE, 666.0))
        if self._dice.random() < 0.3:
            self._dice.shuffle(rows)
        data = {"symbol": params["symbol"], "interval": "1m", "klines": rows[::-1] if self._descending else rows}
        return json.dumps({"code": 0, "message": "success", "data": data}).encode()

    def _rows(self, minute: int) -> list[dict[str, object]]:
        fate, fresh, row = self._fates[minute], minute in self._first, kline(minute, price(minute))
        self._first.discard(minute)
        if fate == "late" and fresh:
            return []
        if fate == "torn" and fresh:
            return [row, kline(minute, 999.0)]
        return [row, row] if fate == "twice" else [row]


_WEIGHTS = ([1, 0, 0, 0, 0], [90, 4, 4, 1, 1], [60, 20, 10, 5, 5], [0, 1, 0, 0, 0])
_TROUBLES = ("dropped", "limited", "broken", "cut")


def price(minute: int) -> float:
    """Return the true price of a minute."""
    return 100.0 + minute


def _at(minute: int) -> datetime:
    return START + minute * MINUTE


class NoLimit:
    """A budget that lets everything through: waiting has tests of its own."""

    def acquire(self, ticket: str, priority: Priority) -> float:
        """Grant."""
        return 0.0

    def release(self, ticket: str) -> None:
        """Forget."""

    def withdraw(self, ticket: str) -> None:
        """Forget."""

    def penalise(self, delay_s: float) -> None:
        """Forget."""


def opener(vendor: FaultyVendor) -> Callable[[SourceSettings], object]:
    """Return what stands for `open_source`: the real client over the faulty vendor, with small pages and no waits."""

    @asynccontextmanager
    async def open_faulty(settings: SourceSettings) -> AsyncIterator[TickDBClient]:
        async with TickDBClient(
            "http://faulty",
            SecretStr("key"),
            requests_per_minute=1,
            limiter=NoLimit(),
            retry=RetryPolicy(base_s=0.0),
            transport=vendor,
        ) as client:
            client.page_bars = PAGE_BARS
            yield client

    return open_faulty


class MemoryLake:
    """What a backfill and its ledger need of a lake, in memory; `lake.store.Lake` has tests of its own."""

    def __init__(self, now: datetime) -> None:
        self.bars = pl.DataFrame(schema=BARS)
        self.tables: dict[str, pl.DataFrame] = {}
        self._now = now

    def now(self) -> datetime:
        """Return the test's present."""
        return self._now.astimezone(UTC)

    def write_bars(self, bars: pl.DataFrame, **where: object) -> WriteReceipt:
        """Write bars over those of the same open."""
        done = upsert(self.bars, bars)
        self.bars = done.bars
        return WriteReceipt(0, bars.height, done.new, done.revised.height, done.changed)

    def read_bars(
        self, symbol: str, interval: str, start: datetime, end: datetime, *, columns: Sequence[str]
    ) -> pl.DataFrame:
        """Return the bars of the range."""
        return self.bars.filter(pl.col("timestamp").is_between(start, end, closed="left")).select(columns)

    def exists(self, table: str) -> bool:
        """Return whether anything was recorded."""
        return table in self.tables

    def scan(self, table: str) -> pl.LazyFrame:
        """Return the table."""
        return self.tables[table].lazy()

    def update(
        self,
        table: str,
        change: Callable[[pl.DataFrame], pl.DataFrame],
        *,
        where: Mapping[str, object],
        empty: pl.DataFrame,
        partition_by: Sequence[str] = (),
    ) -> int:
        """Replace the table's rows by what `change` makes of them."""
        self.tables[table] = change(self.tables.get(table, empty))
        return 0
