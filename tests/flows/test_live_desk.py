"""The live side put together: a part that breaks ends trading as a stop does, bars and books are the venue's."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from msgspec import structs
from pydantic import SecretStr

from flows.live_clock import LiveClock
from flows.live_desk import LiveDesk
from flows.live_plan import TradingPlan
from flows.live_vendor import LiveVendor
from flows.trading_proposal import Proposal
from lake.store import Lake
from lake.timeline import INTERVALS, from_ms
from tasks.errors import ConfigurationError
from tasks.journal.journal import Journal
from tasks.orders.account import TradingState
from tasks.orders.order import OrderType, Side, Status, TimeInForce
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import Faults, StreamFaults
from tasks.simulator.market import Market, generated
from tasks.simulator.server import Simulator
from tasks.stream.events import Alarm, AlarmKind, GapEnded, GapReason
from tasks.stream.messages import Trade
from tasks.stream.policy import SessionPolicy
from tasks.stream.session import Session
from tests.flows.live_rig import live_side, wall_now
from tests.flows.trading_rig import until


def market() -> Market:
    """Return two symbols that trade now."""
    first = wall_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    return generated(symbols=("BTCUSDT", "ETHUSDT"), start=first, end=first + timedelta(hours=4))


def at(there: Simulator) -> dict[str, Any]:
    """Return the settings that point the live side at a simulator of the test's own."""
    places = {"stream_url": there.stream_url, "vendor_url": there.url, "api_key": SecretStr(there.api_key)}
    return {"market": "tickdb", "market_speed": 1.0, **places}


async def test_a_part_that_breaks_lets_trading_end_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect beside the desk ends the run with its error, after open entries were cancelled and all is on record."""
    breaks = asyncio.Event()

    async def broken(desk: LiveDesk) -> None:
        await breaks.wait()
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr(LiveDesk, "_poll", broken)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a defect of ours")):
        async with live_side(tmp_path, TradingPlan()) as (desk, _, account):
            orders, trading = account.journal.state.orders, desk.trading
            await until(lambda: trading.price("BTCUSDT") is not None, lambda: "a book came")
            await until(lambda: trading.desk.state is TradingState.ACTIVE, lambda: "trading is active")
            limit = round((trading.price("BTCUSDT") or Decimal(0)) * Decimal("0.9"), 1)
            wish = Proposal("test", "BTCUSDT", Side.BUY, Decimal("0.001"), "rest", wall_now())
            wish = structs.replace(wish, order_type=OrderType.LIMIT, limit_price=limit, time_in_force=TimeInForce.GTC)
            name = trading.propose(wish)
            await until(lambda: name in orders and orders[name].status is Status.ACCEPTED, lambda: "the order waits")
            breaks.set()
            await until(lambda: orders[name].status is Status.CANCELED, lambda: "the order is cancelled")
    with Journal(tmp_path / "state" / "journal.db") as journal:
        *_, end, _ = journal.lines()
        assert (end.kind, end.body()) == ("shutdown", {"in_doubt": []})


async def test_bars_close_by_the_venue_s_clock(tmp_path: Path) -> None:
    """With our clock a minute and a half ahead, no bar is stored that the venue is still forming."""
    clock = MarketClock(wall_now() - timedelta(seconds=90))
    with Simulator(market(), now=clock, faults=Faults(forming_p=1.0)) as there:
        async with live_side(tmp_path, TradingPlan(), **at(there)) as (_, settings, _):
            lake = Lake(settings.lake_root)
            await until(lambda: set(lake.symbols("1m")) == {"BTCUSDT", "ETHUSDT"}, lambda: "bars came")
            newest = max(lake.read_bars(symbol, "1m")["timestamp"][-1] for symbol in ("BTCUSDT", "ETHUSDT"))
            assert newest + timedelta(minutes=1) <= from_ms(clock())


async def test_a_channel_that_comes_back_is_polled_no_more(tmp_path: Path) -> None:
    """A book that REST stood in for is the stream's again once its channel is, and says so no more."""
    down = StreamFaults(channels_down=("depth",))
    with Simulator(market(), now=MarketClock(wall_now()), stream_faults=down) as there:
        async with live_side(tmp_path, TradingPlan(), **at(there)) as (desk, _, _):

            def faults() -> list[list[str]]:
                return [one["faults"] for one in desk.snapshot()["stream"]["symbols"]]

            await until(lambda: all("polled by REST" in str(one) for one in faults()), lambda: f"polled, {faults()}")
            there.stream_faults = StreamFaults()
            await asyncio.to_thread(there.strike, "rst")
            await until(lambda: faults() == [[], []], lambda: f"the channel is back, {faults()}")


async def test_a_gap_that_ends_during_a_refill_is_refilled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trades lost while those of an earlier gap are being fetched are not taken for fetched.

    Where the vendor refuses trades, the bars come all the same.
    """
    async with live_side(tmp_path, TradingPlan()) as (desk, _, _):
        asked: list[str] = []

        async def fetch(symbol: str) -> list[Trade]:
            if not asked:
                desk._hear(GapEnded("trade", symbol, GapReason.LOST, 0.0, 1.0))
            asked.append(symbol)
            if len(asked) == 2:
                raise ConfigurationError("no trades on this plan")
            return []

        monkeypatch.setattr(desk._vendor, "recent_trades", fetch)
        desk._hear(GapEnded("trade", "BTCUSDT", GapReason.LOST, 0.0, 1.0))
        for _ in range(3):
            await desk._fill("BTCUSDT")
        assert asked == ["BTCUSDT", "BTCUSDT"]


async def test_a_bar_that_comes_late_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor that has each bar only when asked twice costs no signal: who saw it traded asks again.

    Otherwise every bar would come with the one after it, and whatever it says would be history.
    """
    fill, asked = LiveVendor.fill_bars, set[tuple[str, datetime]]()

    async def late(vendor: LiveVendor, lake: Lake, symbol: str, interval: str, **more: Any) -> int:
        bar = symbol, INTERVALS[interval].closed_end(vendor.now())
        if bar not in asked and len(lake.symbols(interval)) == 2:
            asked.add(bar)
            return 0
        return await fill(vendor, lake, symbol, interval, **more)

    monkeypatch.setattr(LiveVendor, "fill_bars", late)
    plan = TradingPlan(strategy="ma_crossover", strategy_params={"fast": 1, "slow": 2})
    async with live_side(tmp_path, plan) as (desk, _, _):

        def told() -> list[tuple[int, int]]:
            return [(one["bars"], one["late"]) for one in desk.snapshot()["trading"]["strategies"]]

        await until(lambda: [bars > 0 for bars, _ in told()] == [True, True], lambda: f"bars come, {told()}")


async def test_alarms_of_the_connection_reach_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the connection wants a person to hear of goes where pressure and halts go."""
    told: list[tuple[str, str]] = []
    monkeypatch.setattr("flows.live_alerts.AlertSender.call", lambda sender, *words: told.append(words))
    async with live_side(tmp_path, TradingPlan()) as (desk, _, _):
        desk._service._event(Alarm(1.0, AlarmKind.DENIED, "1001: the API key is not valid"))
    assert told == [("stream: access denied", "1001: the API key is not valid")]


async def test_a_machine_that_stood_still_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour by which the wall clock is ahead all at once is stored as an outage of everything that is streamed."""
    async with live_side(tmp_path, TradingPlan()) as (desk, settings, _):
        await until(lambda: desk.trading.price("BTCUSDT") is not None, lambda: "a book came")
        hour = timedelta(hours=1)
        monkeypatch.setattr("flows.live_clock.wall_clock", lambda: wall_now() + hour)
        epoch_ms = desk._session.epoch_ms
        await until(lambda: desk._session.epoch_ms > epoch_ms, lambda: "it is noticed")
    outages = Lake(settings.lake_root).scan("live/outages").filter(pl.col("reason") == "not running").collect()
    spans = {(row["channel"], row["symbol"]): row["end"] - row["start"] for row in outages.iter_rows(named=True)}
    assert len(spans) == 4
    assert all(abs(span - hour) < timedelta(seconds=2) for span in spans.values())


@pytest.mark.parametrize(("ahead_s", "heeded"), [(-90.0, True), (3600.0, True), (1e9, False)])
def test_a_pong_from_another_age_is_no_clock(ahead_s: float, heeded: bool) -> None:
    """The venue's clock counts for as long as it can be one; what is a day away is a fault, and ours stands in."""
    epoch_ms = time.time() * 1000.0 - time.monotonic() * 1000.0
    session = Session([], policy=SessionPolicy(), rng=Random(1), epoch_ms=epoch_ms)
    clock = LiveClock(session, lambda change: None)
    now = time.monotonic()
    session.link.clock.ping_sent(now)
    session.link.clock.pong_received(now, session.wall_ms(now), session.wall_ms(now) + 1000.0 * ahead_s)
    expected = wall_now() + timedelta(seconds=ahead_s if heeded else 0.0)
    assert abs(clock.now() - expected) < timedelta(seconds=1)


async def test_a_clock_that_was_set_waits_for_the_venue_s_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the leap of our clock and the next pong nothing is fetched: a forming bar would look closed."""
    session = Session([], policy=SessionPolicy(), rng=Random(1), epoch_ms=time.time() * 1e3 - time.monotonic() * 1e3)
    clock = LiveClock(session, lambda change: None)

    def pong() -> None:
        now = time.monotonic()
        session.link.clock.ping_sent(now)
        session.link.clock.pong_received(now, session.wall_ms(now), wall_now().timestamp() * 1e3)

    pong()
    monkeypatch.setattr("flows.live_clock._WAIT_S", 0.0)
    await clock.known()  # at the start, long ago
    monkeypatch.setattr("flows.live_clock._WAIT_S", 60.0)
    session.jumped(time.monotonic(), 3600.0)
    known = asyncio.create_task(clock.known())
    done, _ = await asyncio.wait([known], timeout=0.1)
    assert not done
    pong()
    await asyncio.wait_for(known, 5.0)
    assert abs(clock.now() - wall_now()) < timedelta(seconds=1)
