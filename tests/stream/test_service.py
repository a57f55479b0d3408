"""The stream at work on the local market: recorded, monitored, refilled, and honest about what it missed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from pydantic import SecretStr

from lake.store import Lake
from tasks.errors import TransientError, UnknownSymbolError
from tasks.simulator.clock import MarketClock
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tasks.stream.desk import Desk, DeskPolicy
from tasks.stream.messages import Trade
from tasks.stream.policy import SessionPolicy
from tasks.stream.recording import ALERTS, DEPTH, OUTAGES, TRADES, Recorder, last_recorded, recorded_trades
from tasks.stream.refill import Refill
from tasks.stream.service import StreamService
from tasks.stream.session import Session
from tasks.stream.socket import Endpoint
from tasks.stream.states import State

START = datetime(2026, 3, 2, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KEYS = [(channel, symbol) for channel in ("depth", "trade") for symbol in SYMBOLS]


@pytest.fixture(scope="module")
def market():
    """Return two symbols of six hours."""
    return generated(seed=7, symbols=SYMBOLS, interval="1m", start=START, end=START + timedelta(hours=6))


def service(simulator: Simulator, lake: Lake | None, **options) -> StreamService:
    """Return a service for the simulator, with short waits."""
    epoch_ms = time.time() * 1000 - time.monotonic() * 1000
    policy = SessionPolicy(backoff_base_s=0.01, backoff_cap_s=0.05, close_timeout_s=0.5, connects_per_window=10_000)
    rng = Random(1)
    session = Session(KEYS, policy=policy, rng=rng, epoch_ms=epoch_ms, refilled="refill" in options)
    recorder = None if lake is None else Recorder(lake)
    desk = Desk(SYMBOLS, DeskPolicy(), recorder=recorder, on_alert=lambda alert: None, to_wall_ms=session.wall_ms)
    endpoint = Endpoint(simulator.stream_url, simulator.url, SecretStr(simulator.api_key))
    return StreamService(session, endpoint, desk, recorder=recorder, **options)


@contextlib.asynccontextmanager
async def running(work: StreamService) -> AsyncIterator[None]:
    """Run a service for the length of the block, then stop it cleanly."""
    stop = asyncio.Event()
    task = asyncio.create_task(work.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60.0)


async def until(condition, timeout_s: float = 60.0) -> None:
    """Poll a condition; the service offers no event for it."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_streamed_is_what_rest_serves(market, tmp_path: Path) -> None:
    """Trades recorded from the stream, summed by minute, are the volume of the market's own bars."""
    lake = Lake(tmp_path)
    with Simulator(market, now=MarketClock(START + timedelta(hours=1), speed=120.0)) as simulator:
        work = service(simulator, lake)
        async with running(work):
            await until(lambda: work.desk.seats["BTCUSDT"].tape.last_ms >= (START.timestamp() + 3780) * 1000)
        trades = lake.scan(TRADES).filter(pl.col("symbol") == "BTCUSDT").collect()
        minute = START + timedelta(hours=1, minutes=1)
        streamed = trades.filter(pl.col("timestamp").is_between(minute, minute + timedelta(minutes=1), closed="left"))
        bar = market.bars("BTCUSDT", "1m", minute, minute + timedelta(minutes=1)).row(0, named=True)
    assert streamed["quantity"].sum() == pytest.approx(bar["volume"], rel=1e-6)
    assert streamed["price"].max() == pytest.approx(bar["high"])
    assert trades["id"].is_unique().all()
    assert lake.scan(DEPTH).collect().height > 2
    assert not lake.exists(OUTAGES)


async def test_outages_are_stored_and_cover_those_injected(market, tmp_path: Path) -> None:
    """Each strike leaves one outage a subscription: it begins around the strike and ends with the next data."""
    lake, struck = Lake(tmp_path), []
    with Simulator(market, now=MarketClock(START, speed=60.0)) as simulator:
        work = service(simulator, lake)

        def now() -> datetime:
            return datetime.fromtimestamp(work.session.wall_ms(time.monotonic()) / 1000, UTC)

        async with running(work):
            for how in ("rst", "fin", "close", "mid_frame"):
                await until(lambda: all(one.gap_start is None and one.seen for one in topics(work)))
                at, before = now(), work.session.connects
                await asyncio.to_thread(simulator.strike, how)
                await until(lambda before=before: work.session.connects > before)
                noticed = now()
                await until(lambda: all(one.gap_start is None for one in topics(work)))
                struck.append((at, noticed, now()))
            await until(lambda: work.session.state is State.LIVE)
    outages = lake.scan(OUTAGES).collect()
    slack = timedelta(seconds=2)  # between the last frame and the strike
    for key in KEYS:
        mine = outages.filter((pl.col("channel") == key[0]) & (pl.col("symbol") == key[1])).sort("start")
        assert mine.height == len(struck)
        for row, (at, noticed, over) in zip(mine.iter_rows(named=True), struck, strict=True):
            assert at - slack <= row["start"] <= noticed
            assert row["start"] <= row["end"] <= over


def topics(work: StreamService):
    """Return the service's topics."""
    return work.session.link.subscriptions.topics.values()


async def test_a_restart_stores_the_time_it_was_away(market, tmp_path: Path) -> None:
    """What was recorded last is where the outage of the next run begins."""
    lake = Lake(tmp_path)
    with Simulator(market, now=MarketClock(START, speed=60.0)) as simulator:
        work = service(simulator, lake)
        async with running(work):
            await until(lambda: work.session.state is State.LIVE and work.desk.seats["ETHUSDT"].tape.count > 5)
        last = last_recorded(lake, KEYS)
        assert set(last) == set(KEYS)
        again = service(simulator, lake)
        again.session.resume({key: at.timestamp() - again.session.epoch_ms / 1000 for key, at in last.items()})
        async with running(again):
            await until(lambda: again.session.state is State.LIVE)
    outages = lake.scan(OUTAGES).filter(pl.col("reason") == "not running").collect()
    starts = {(row["channel"], row["symbol"]): row["start"] for row in outages.iter_rows(named=True)}
    assert set(starts) == set(KEYS)
    assert all(abs(starts[key] - last[key]) < timedelta(milliseconds=1) for key in KEYS)


def test_a_start_remembers_the_newest_trades_of_each_symbol(tmp_path: Path) -> None:
    """However many hours and days they lie apart, in order, as many of each symbol as are asked for."""
    lake, dice = Lake(tmp_path), Random(5)
    assert recorded_trades(lake, SYMBOLS) == {}
    recorder = Recorder(lake)
    stamps: dict[str, list[int]] = {symbol: [] for symbol in (*SYMBOLS, "OTHER")}
    for number in range(300):
        symbol = dice.choice(("BTCUSDT", "BTCUSDT", "BTCUSDT", "OTHER", "ETHUSDT" if number % 9 == 0 else "OTHER"))
        stamp = round(START.timestamp() * 1000) + dice.randrange(3 * 86_400_000)
        stamps[symbol].append(stamp)
        recorder.trade(symbol, Trade(f"t{stamp}", 1.0, 1.0, "buy", stamp), stamp)
    recorder.flush()
    expected = {symbol: [f"t{one}" for one in sorted(stamps[symbol])[-40:]] for symbol in SYMBOLS}
    assert recorded_trades(lake, SYMBOLS, most=40) == expected
    assert recorded_trades(lake, ["UNKNOWN"]) == {}


async def test_a_gap_is_refilled_before_the_stream_is_live_again(market) -> None:
    """After a cut the state is resync until the bars of every symbol are fetched; a passing fault is tried again."""
    asked: list[str] = []
    allowed = asyncio.Event()

    async def fill(symbol: str) -> int:
        asked.append(symbol)
        await allowed.wait()
        if len(asked) == 1:
            raise TransientError("busy")
        return 3

    with Simulator(market, now=MarketClock(START, speed=60.0)) as simulator:
        refill = Refill(fill, lambda symbol: work.driver.tell(lambda session, now: session.resynced(now, [symbol])))
        work = service(simulator, None, refill=refill)
        async with running(work):
            await until(lambda: work.session.state is State.LIVE)
            await asyncio.to_thread(simulator.strike, "rst")
            await until(lambda: work.session.state is State.RESYNC)
            allowed.set()
            await until(lambda: work.session.state is State.LIVE)
    assert set(asked) == set(SYMBOLS)
    assert refill.written >= 6


async def test_a_symbol_that_cannot_be_filled_does_not_stop_the_others() -> None:
    """A symbol the vendor does not know is given up and named; the next one is fetched."""
    done: list[str] = []

    async def fill(symbol: str) -> int:
        if symbol == "NOPE":
            raise UnknownSymbolError("NOPE: not listed")
        return 1

    refill = Refill(fill, done.append)
    refill.after_gap("NOPE")
    refill.follow(["A", "B"])
    task = asyncio.create_task(refill.run())
    await until(lambda: len(done) == 3)
    task.cancel()
    assert done == ["NOPE", "A", "B"]
    assert refill.failed == {"NOPE": "NOPE: not listed"}


async def test_a_symbol_whose_fault_lasts_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Server trouble with one symbol after a gap leaves the bars of the others to come, over and over."""
    monkeypatch.setattr("tasks.stream.refill.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("tasks.stream.refill.LONGEST_WAIT_S", 0.002)
    done: list[str] = []

    async def fill(symbol: str) -> int:
        if symbol == "BAD":
            raise TransientError("5000")
        return 1

    refill = Refill(fill, done.append)
    refill.after_gap("BAD")
    refill.follow(["BAD", "A", "B"])
    task = asyncio.create_task(refill.run())
    await until(lambda: done == ["A", "B"])
    refill.follow(["BAD", "A", "B"])
    await until(lambda: done == ["A", "B", "A", "B"])
    assert refill.waiting == 1
    task.cancel()


async def test_a_gap_during_a_refill_is_waited_for() -> None:
    """Bars are told to be there only once those of the newest gap are."""
    done, asked = list[str](), list[str]()

    async def fill(symbol: str) -> int:
        asked.append(symbol)
        if len(asked) == 1:
            refill.after_gap(symbol)
            assert done == []
        return 1

    refill = Refill(fill, done.append)
    refill.after_gap("A")
    task = asyncio.create_task(refill.run())
    await until(lambda: len(asked) == 2 and refill.waiting == 0)
    await until(lambda: done == ["A"])
    task.cancel()


async def test_the_snapshot_is_plain_and_whole(market) -> None:
    """The page's state is JSON without NaN, and names every symbol."""
    import json

    with Simulator(market, now=MarketClock(START, speed=10.0)) as simulator:
        work = service(simulator, None)
        before = json.dumps(work.snapshot(), allow_nan=False)
        async with running(work):
            await until(lambda: all(seat.book.quote(time.monotonic()).validity.ok for seat in work.desk.seats.values()))
            after = json.loads(json.dumps(work.snapshot(), allow_nan=False))
    assert '"idle"' in before
    assert [one["symbol"] for one in after["symbols"]] == list(SYMBOLS)
    assert all(one["valid"] and one["pressure_ratio"] > 0 for one in after["symbols"])
    assert simulator.api_key not in json.dumps(after)


class Refusing(Lake):
    """A lake that cannot be written for a while."""

    refuses = True

    def append(self, table, rows, *, partition_by=()):
        """Refuse, or write."""
        if self.refuses:
            raise TransientError("disk full")
        return super().append(table, rows, partition_by=partition_by)


def test_rows_wait_for_a_lake_that_refuses(tmp_path: Path) -> None:
    """Rows stay in order while the lake refuses, and what memory cannot hold becomes an outage."""
    from tasks.stream.messages import Trade

    lake = Refusing(tmp_path)
    recorder = Recorder(lake, max_rows=10)
    for number in range(25):
        recorder.trade("A", Trade(number, 1.0, 1.0, "buy", 1_000 * number), 1_000.0 * number)
    with pytest.raises(TransientError):
        recorder.flush()
    lake.refuses = False
    recorder.flush()
    rows = lake.scan(TRADES).collect().sort("timestamp")
    assert rows["id"].to_list() == [str(number) for number in range(15, 25)]
    assert recorder.lost == 15
    (outage,) = lake.scan(OUTAGES).collect().iter_rows(named=True)
    assert (outage["start"].second, outage["end"].second) == (0, 14)
    assert not lake.exists(ALERTS)


def test_rows_that_come_while_a_lake_refuses_are_bounded_too(tmp_path: Path) -> None:
    """However long the lake refuses, and whatever arrives while it is asked, no more rows are kept than are allowed."""
    from tasks.stream.messages import Trade

    class Busy(Refusing):
        def append(self, table: str, rows: pl.DataFrame, *, partition_by: tuple[str, ...] = ()) -> int:
            arrive(4)
            return super().append(table, rows, partition_by=partition_by)

    lake = Busy(tmp_path)
    recorder = Recorder(lake, max_rows=10)

    def arrive(count: int) -> None:
        for number in range(count):
            recorder.trade("A", Trade(number, 1.0, 1.0, "buy", 1_000 * number), 1_000.0 * number)

    arrive(10)
    for _ in range(5):
        with pytest.raises(TransientError):
            recorder.flush()
    arrive(1)
    assert recorder.lost == 21
    lake.refuses = False
    recorder.flush()
    assert lake.scan(TRADES).collect().height == 10


async def test_spoiled_messages_alert_nobody(market, tmp_path: Path) -> None:
    """Crossed books and garbage between good messages: no alert stands on a book that is not whole."""
    from tasks.simulator.faults import StreamFaults
    from tasks.stream.book import level_faults
    from tasks.stream.monitor import MonitorPolicy

    bad: list[str] = []
    told: list[str] = []
    faults = StreamFaults(seed=3, crossed_p=0.3, garbage_p=0.3, drop_ack_p=0.5)
    with Simulator(market, now=MarketClock(START, speed=60.0), stream_faults=faults) as simulator:
        work = service(simulator, None)

        def judge(alert) -> None:
            book = work.desk.seats[alert.symbol].book.snapshot
            told.append(alert.episode)
            if book is None or level_faults(book.bids, book.asks):
                bad.append(alert.episode)

        work.desk = Desk(
            SYMBOLS,
            DeskPolicy(monitor=MonitorPolicy(dwell_s=0.0)),
            recorder=None,
            on_alert=judge,
            to_wall_ms=work.session.wall_ms,
        )
        async with running(work):
            await until(lambda: len(told) > 5 and len(simulator.injected) > 20)
    assert bad == []
    assert len(set(told)) == len(told)


async def test_a_lockout_by_our_own_dead_connection_heals_without_a_storm(market) -> None:
    """With one connection allowed and a zombie holding it, the zombie is closed and the stream is back in seconds."""
    from tasks.simulator.faults import StreamFaults
    from tasks.stream.events import Alarm, AlarmKind

    zombies = StreamFaults(zombie_s=3600.0)
    heard: list[object] = []
    with Simulator(market, plan="basic", now=MarketClock(START, speed=60.0), stream_faults=zombies) as simulator:
        work = service(simulator, None, listeners=[heard.append])
        async with running(work):
            await until(lambda: work.session.state is State.LIVE)
            await asyncio.to_thread(simulator.strike, "rst")
            await until(lambda: any(isinstance(one, Alarm) and one.kind is AlarmKind.LOCKED_OUT for one in heard))
            await until(lambda: work.session.state is State.LIVE)
        assert work.session.connects <= 4


async def test_another_process_of_ours_is_never_cut_off(market) -> None:
    """A living connection of the same key is left alone: the second stream waits instead."""
    with Simulator(market, plan="basic", now=MarketClock(START, speed=60.0)) as simulator:
        first, second = service(simulator, None), service(simulator, None)
        async with running(first):
            await until(lambda: first.session.state is State.LIVE)
            async with running(second):
                await until(lambda: second.session.state is State.BACKOFF)
                assert second.session.retry_at > time.monotonic() + 60.0
                assert second.session.connects == 1
            assert first.session.connects == 1
            assert first.session.state is State.LIVE


async def test_a_stop_uses_what_still_waits(market, tmp_path: Path) -> None:
    """Trades that arrived and were not yet used when the stop came are recorded too."""
    from tasks.stream.messages import Trade, Trades

    lake, stop = Lake(tmp_path), asyncio.Event()
    with Simulator(market, now=MarketClock(START, speed=1.0)) as simulator:
        work = service(simulator, lake)
        stop.set()
        work.mailbox.put("BTCUSDT", Trades("BTCUSDT", [Trade(str(n), 1.0, 1.0, "buy", n) for n in range(3_000)]), 0.0)
        await asyncio.wait_for(work.run(stop), 60.0)
    assert lake.scan(TRADES).collect().height == 3_000
