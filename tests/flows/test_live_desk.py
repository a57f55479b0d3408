"""The live side put together: what breaks beside trading ends it as a stop does, and by the venue's clock it is fed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from flows.live_desk import LiveDesk
from flows.live_plan import TradingPlan
from flows.trading_proposal import Proposal
from lake.store import Lake
from lake.timeline import from_ms
from tasks.journal.journal import Journal
from tasks.orders.order import OrderType, Side, Status, TimeInForce
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tests.flows.live_rig import live_side, wall_now
from tests.flows.trading_rig import until


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
            limit = round((trading.price("BTCUSDT") or Decimal(0)) * Decimal("0.99"), 1)
            wish = Proposal("test", "BTCUSDT", Side.BUY, Decimal("0.001"), "rest", wall_now())
            wish = replace(wish, order_type=OrderType.LIMIT, limit_price=limit, time_in_force=TimeInForce.GTC)
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
    first = wall_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    market = generated(symbols=("BTCUSDT", "ETHUSDT"), start=first, end=first + timedelta(hours=4))
    with Simulator(market, now=clock, faults=Faults(forming_p=1.0)) as there:
        places = {"stream_url": there.stream_url, "vendor_url": there.url, "api_key": SecretStr(there.api_key)}
        more: dict[str, Any] = {"market": "tickdb", "market_speed": 1.0, **places}
        async with live_side(tmp_path, TradingPlan(), **more) as (_, settings, _):
            lake = Lake(settings.lake_root)
            await until(lambda: set(lake.symbols("1m")) == {"BTCUSDT", "ETHUSDT"}, lambda: "bars came")
            newest = max(lake.read_bars(symbol, "1m")["timestamp"][-1] for symbol in ("BTCUSDT", "ETHUSDT"))
            assert newest + timedelta(minutes=1) <= from_ms(clock())
