"""The stream's long proofs against the local market: disconnects without number, faults without a false alert.

    python -m benchmarks.proof_stream                       # 10,000 disconnects, 1,000 faults, 50 symbols refilled
    python -m benchmarks.proof_stream --disconnects 500 --faults 60

1. Disconnects of every kind, one after the other: subscriptions restored each time, pings on each connection, and
   tasks, file descriptors and memory at the end as at the beginning.
2. Faults (endings, crossed books, garbage, lost acknowledgements): no alert from an invalid book, and as many stored
   outages as there were endings, each around the moment of its ending.
3. Gaps of 1 s to 6 h in the bars of 50 symbols, each refilled by REST: equal to the market's own bars.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
import structlog
from pydantic import SecretStr

from benchmarks.runner import Table
from benchmarks.stream_market import RemoteMarket, remote_market
from flows.live_vendor import LiveVendor
from lake.store import Lake
from lake.timeline import INTERVALS
from tasks.exchange.client import TickDBClient
from tasks.exchange.limiter import Limits, Priority
from tasks.exchange.throttle import PrivateBudget
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import StreamFaults
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tasks.stream.book import level_faults
from tasks.stream.desk import Desk, DeskPolicy
from tasks.stream.monitor import Alert, MonitorPolicy
from tasks.stream.policy import SessionPolicy
from tasks.stream.recording import OUTAGES, Recorder
from tasks.stream.service import StreamService
from tasks.stream.session import Session
from tasks.stream.socket import Endpoint
from tasks.stream.states import State

START = datetime(2026, 3, 2, tzinfo=UTC)
#: Ways to end that are noticed at once; the silent ones take `dead_after_s` each.
LOUD = ("rst", "fin", "close", "mid_frame", "accept_close")
QUIET = ("half_open", "silent")
FAST = SessionPolicy(
    backoff_base_s=0.001, backoff_cap_s=0.002, connects_per_window=1_000_000, close_timeout_s=0.3, dead_after_s=0.3,
    ping_every_s=0.05,
)  # fmt: skip


def service(
    simulator: Simulator | RemoteMarket, symbols: tuple[str, ...], policy: SessionPolicy, **more: object
) -> StreamService:
    """Return a stream for the simulator; `recorder` and `on_alert` may be given."""
    keys = [(channel, symbol) for channel in ("depth", "trade") for symbol in symbols]
    epoch_ms = time.time() * 1000.0 - time.monotonic() * 1000.0
    session = Session(keys, policy=policy, rng=Random(5), epoch_ms=epoch_ms)  # type: ignore[arg-type]  # noqa: S311
    recorder = more.get("recorder")
    desk = Desk(
        symbols,
        DeskPolicy(monitor=MonitorPolicy(dwell_s=0.0)),
        recorder=recorder,  # type: ignore[arg-type]
        on_alert=more.get("on_alert", lambda alert: None),  # type: ignore[arg-type]
        to_wall_ms=session.wall_ms,
    )
    endpoint = Endpoint(simulator.stream_url, simulator.url, SecretStr(simulator.api_key))
    return StreamService(session, endpoint, desk, recorder=recorder)  # type: ignore[arg-type]


@asynccontextmanager
async def running(work: StreamService) -> AsyncIterator[None]:
    """Run a service for the length of the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(work.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for a condition of a service."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def disconnects(table: Table, count: int) -> None:
    """Part one."""
    symbols = ("BTCUSDT", "ETHUSDT")
    rng, early = Random(11), (0, 0, 0.0)  # noqa: S311
    with remote_market(symbols, START, speed=10.0) as simulator:
        work = service(simulator, symbols, FAST)
        wanted = frozenset(work.session.link.subscriptions.topics)
        restored, pinged, began = 0, 0, time.perf_counter()
        async with running(work):
            for number in range(count):
                await until(lambda: work.session.state is State.LIVE and work.session.link.heartbeat.pings > 0)
                restored += wanted in simulator.subscriptions
                pinged += 1
                if number == count // 5:
                    early = _held()
                how = rng.choice(QUIET) if number % 50 == 0 else rng.choice(LOUD)
                before = work.session.connects
                await asyncio.to_thread(simulator.strike, how)
                await until(lambda before=before: work.session.connects > before)
            await until(lambda: work.session.state is State.LIVE)
            late = _held()
        seconds = time.perf_counter() - began
    table.figure("disconnects survived", restored, at_least=count, detail=f"{count / seconds:.0f} a second")
    table.figure("connections with a live heartbeat", pinged, at_least=count)
    table.figure("tasks more than after a fifth", late[0] - early[0], at_most=3)
    table.figure("file descriptors more", late[1] - early[1], at_most=6)
    table.figure("memory grown", late[2] - early[2], at_most=max(10.0, count / 1000), unit=" MiB")


def _held() -> tuple[int, int, float]:
    """Return how many tasks, file descriptors and MiB of memory this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), pages * resource.getpagesize() / 2**20


async def faults(table: Table, count: int) -> None:
    """Part two."""
    symbols = ("BTCUSDT", "ETHUSDT")
    market = generated(seed=7, symbols=symbols, start=START, end=START + timedelta(days=2))
    false_alerts: list[Alert] = []
    told = 0
    struck: list[float] = []
    spoiled = StreamFaults(seed=3, crossed_p=0.05, garbage_p=0.05, drop_ack_p=0.1)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        with Simulator(
            market, now=MarketClock(START + timedelta(hours=1), speed=20.0), stream_faults=spoiled
        ) as simulator:

            def judge(alert: Alert) -> None:
                nonlocal told
                told += 1
                seat = work.desk.seats[alert.symbol]
                book = seat.book.snapshot
                if book is None or seat.book.gap or level_faults(book.bids, book.asks):
                    false_alerts.append(alert)

            policy = replace(FAST, ack_timeout_s=0.3)
            work = service(simulator, symbols, policy, recorder=Recorder(lake), on_alert=judge)
            topics = work.session.link.subscriptions.topics
            rng = Random(13)  # noqa: S311
            async with running(work):
                for _ in range(count):
                    await until(lambda: all(one.gap_start is None and one.seen for one in topics.values()))
                    before = work.session.connects
                    struck.append(time.time())
                    await asyncio.to_thread(simulator.strike, rng.choice(LOUD + QUIET[:1]))
                    await until(lambda before=before: work.session.connects > before)
                await until(lambda: all(one.gap_start is None for one in topics.values()))
        outages = lake.scan(OUTAGES).collect()
        injected = len(simulator.injected)
    matched = _matched(outages, struck)
    detail = f"{injected} faults, {told} alerts in all"
    table.figure("alerts from an invalid book", len(false_alerts), at_most=0, detail=detail)
    table.figure("outages stored for each subscription", outages.height / len(topics), at_least=count, at_most=count)
    table.figure("outages around their injection", matched, at_least=outages.height)


def _matched(outages: pl.DataFrame, struck: list[float]) -> int:
    """Return how many outages hold the moment of their strike, within the half second until it is noticed."""
    slack = timedelta(seconds=0.6)
    moments = [datetime.fromtimestamp(at, UTC) for at in struck]
    found = 0
    for _, rows in outages.group_by("channel", "symbol"):
        for row, moment in zip(rows.sort("start").iter_rows(named=True), moments, strict=False):
            found += row["start"] - slack <= moment <= row["end"] + slack
    return found


async def refills(table: Table, symbols_count: int) -> None:
    """Part three: the lake of each symbol stops at a random moment, and is filled as the live flow fills it."""
    rng = Random(17)  # noqa: S311
    now = datetime.now(UTC)
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=12)
    symbols = tuple(f"S{number:02}USDT" for number in range(symbols_count))
    market = generated(seed=9, symbols=symbols, start=first, end=now + timedelta(hours=6))
    step, equal, rows = INTERVALS["1m"], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        with Simulator(market, now=lambda: datetime.now(UTC)) as simulator:
            budget = PrivateBudget(Limits(1800))
            async with TickDBClient(
                simulator.url, SecretStr(simulator.api_key), requests_per_minute=1800, limiter=budget,
                priority=Priority.RESYNC,
            ) as client:  # fmt: skip
                endpoint = Endpoint(simulator.stream_url, simulator.url, SecretStr(simulator.api_key))
                vendor = LiveVendor(endpoint, client, budget, 1800)  # type: ignore[arg-type]
                for symbol in symbols:
                    torn = step.floor(now - timedelta(seconds=rng.uniform(1.0, 6 * 3600)))
                    known = market.bars(symbol, "1m", first, torn)
                    lake.write_bars(known, symbol=symbol, interval="1m", start=first, end=torn)
                    rows += await vendor.fill_bars(lake, symbol, "1m")
                    found = lake.read_bars(symbol, "1m")
                    truth = market.bars(symbol, "1m", first, found["timestamp"][-1] + timedelta(minutes=1))
                    equal += found.equals(truth.select(found.columns)) and now - found["timestamp"][-1] < timedelta(
                        minutes=3
                    )
            asked = sum(simulator.requests.values())
    detail = f"{rows} bars, {asked} requests"
    table.figure("symbols equal to an uninterrupted run", equal, at_least=symbols_count, detail=detail)


def main() -> None:
    """Prove, print, and exit 1 where a promise is broken."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parser = argparse.ArgumentParser()
    parser.add_argument("--disconnects", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--symbols", type=int, default=50)
    arguments = parser.parse_args()
    table = Table("Live stream, long proofs")
    asyncio.run(disconnects(table, arguments.disconnects))
    asyncio.run(faults(table, arguments.faults))
    asyncio.run(refills(table, arguments.symbols))
    table.finish()


if __name__ == "__main__":
    main()
