"""The mirror against a real Redis redis_url, and against none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from tasks.stream import mirror
from tasks.stream.messages import Depth, Ticker, Trade, Trades
from tasks.stream.mirror import Mirror

BOOK = Depth("A", [(100.0, 2.0)], [(100.5, 1.0)], 5)


async def sent(work: Mirror, count: int) -> None:
    """Run the mirror until it has sent so many entries."""
    task = asyncio.create_task(work.run())
    async with asyncio.timeout(60.0):
        while work.sent < count:  # noqa: ASYNC110  # the mirror offers no event for it
            await asyncio.sleep(0.01)
    task.cancel()


async def test_books_and_trades_arrive_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is an entry of its symbol's stream, and the stream keeps to its length."""
    monkeypatch.setattr(mirror, "KEPT", 100)
    work = Mirror(SecretStr(redis_url))
    for number in range(1_000):
        work.put("A", Depth("A", [(100.0 + number, 2.0)], [(2_000.0, 1.0)], number))
    work.put("A", Trades("A", [Trade("t1", 100.25, 0.5, "buy", 7)]))
    work.put("A", Ticker("A", 1.0, 1))
    work.put("A", Depth("A", [], [], 1))
    await sent(work, 1_001)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert 100 <= client.xlen("klinehouse:depth:A") < 400
        ((_, newest),) = client.xrevrange("klinehouse:depth:A", count=1)
        assert (newest["bid"], newest["timestamp"]) == ("1099.0", "999")
        ((_, trade),) = client.xrange("klinehouse:trade:A")
        assert trade == {"id": "t1", "price": "100.25", "quantity": "0.5", "side": "buy", "timestamp": "7"}


async def test_without_an_address_nothing_is_kept() -> None:
    """Off is off: nothing queues, and the task ends at once."""
    work = Mirror(None)
    work.put("A", BOOK)
    await work.run()
    assert work._waiting.empty()


async def test_a_missing_server_costs_entries_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that cannot be sent are dropped and counted, the queue stays bounded, the password stays secret."""
    monkeypatch.setattr(mirror, "RETRY_S", 0.0)
    work = Mirror(SecretStr(f"unix://:hush-hush@{tmp_path}/nobody.sock"))
    for _ in range(mirror.MAX_WAITING + 50):
        work.put("A", BOOK)
    assert work.dropped == 50
    task = asyncio.create_task(work.run())
    async with asyncio.timeout(60.0):
        while work.dropped < mirror.MAX_WAITING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    assert "hush-hush" not in repr(work.__dict__)
