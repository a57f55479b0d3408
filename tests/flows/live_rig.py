"""The order half of a live run without a stream: a paper account, books by hand, bars by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Any

import polars as pl

from flows.live_account import Account, Steps, open_account
from flows.live_alerts import AlertSender
from flows.live_desk import LiveDesk
from flows.live_market import TradedDesk
from flows.live_plan import TradingPlan
from flows.live_switch import KillSwitch
from flows.live_trading import LiveTrading
from flows.live_vendor import open_live_vendor
from flows.settings import Settings
from lake.schema import as_bars
from tasks.broker.matching import Terms
from tasks.broker.paper import PaperBroker
from tasks.journal.journal import Journal
from tasks.orders.account import Limits, TradingState
from tasks.stream.desk import DeskPolicy
from tasks.stream.events import GapBegan, GapReason
from tasks.stream.messages import Depth, Trade
from tasks.stream.monitor import MonitorPolicy
from tests.flows.conftest import free_port
from tests.flows.trading_rig import QUICK, SYMBOL, running, until

MINUTE = timedelta(minutes=1)
#: The market's monotonic clock stands still: no book grows old because the machine is busy.
NOW = 1_000.0
LIMITS = Limits(orders_per_minute=1000, symbol_orders_per_minute=1000, strategy_orders_per_minute=1000)


def wall_now() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)


def market_desk(account: Account) -> TradedDesk:
    """Return the stream's desk with an account behind it, for one symbol."""
    return TradedDesk(
        account.spelling,
        DeskPolicy(),
        account=account,
        recorder=None,
        on_alert=lambda alert: None,
        to_wall_ms=lambda at: at * 1000.0,
        clock=lambda: NOW,
    )


class LiveRig:
    """A live account at work, and what tests do to its market."""

    def __init__(self, trading: LiveTrading, desk: TradedDesk, account: Account, switch: KillSwitch) -> None:
        self.trading, self.desk, self.account, self.switch = trading, desk, account, switch
        self.called: list[tuple[str, str]] = []
        self._stamp = round(time() * 1000)

    def quote(self, bid: float = 99.0, ask: float = 101.0) -> None:
        """Let the stream bring as many books as trust takes."""
        for _ in range(3):
            self._stamp += 1
            self.desk.take(SYMBOL, Depth(SYMBOL, [(bid, 10.0)], [(ask, 10.0)], self._stamp), NOW)

    def trade(self, price: float, *, late_ms: int = 0) -> None:
        """Let the stream bring a trade."""
        self._stamp += 1
        trade = Trade(str(self._stamp), price, 5.0, "buy", self._stamp - late_ms)
        self.desk.take_trades([(SYMBOL, trade, NOW)])

    def gap(self) -> None:
        """Let the stream lose its data."""
        self.desk.hear(GapBegan("depth", SYMBOL, GapReason.LOST, NOW))

    async def until(self, condition, what: str) -> None:
        """Wait for something, with patience for a busy machine."""
        await until(condition, lambda: what)

    async def until_state(self, state: TradingState) -> None:
        """Wait until the account may do something."""
        await self.until(lambda: self.trading.desk.state is state, f"trading is {state}")

    def told(self) -> dict:
        """Return what the page is told."""
        return self.trading.describe()


@asynccontextmanager
async def opened(folder: Path, plan: TradingPlan | None = None) -> AsyncIterator[Account]:
    """Open a paper account in a folder, as often as wanted."""
    terms = Terms(latency_s=Decimal(0), initial_cash=Decimal(100_000))
    broker = PaperBroker(folder / "paper.db", clock=wall_now, terms=terms)
    with Journal(folder / "journal.db") as journal:
        steps = {SYMBOL: Steps()}
        yield Account("paper", broker, journal, plan or TradingPlan(), {SYMBOL: SYMBOL}, steps)
    await broker.close()


@asynccontextmanager
async def trading(folder: Path, plan: TradingPlan | None = None) -> AsyncIterator[LiveRig]:
    """Run the order half of a live run on a folder's journal and account; it stops clean at the end."""
    async with opened(folder, plan) as account:
        desk, switch = market_desk(account), KillSwitch(folder)
        called: list[tuple[str, str]] = []
        live = LiveTrading(
            account,
            LIMITS,
            market=desk.market,
            book=desk.book_view,
            switch=switch,
            call=lambda subject, words: called.append((subject, words)),
            pace=QUICK,
        )
        rig = LiveRig(live, desk, account, switch)
        rig.called = called
        rig.quote()
        async with running(live.run):
            yield rig


@asynccontextmanager
async def live_side(folder: Path, plan: TradingPlan, **other: Any) -> AsyncIterator[tuple[LiveDesk, Settings, Account]]:
    """Run the whole live side as the flow does, on a simulated market where bars close every two seconds.

    An order may lie far enough from such a market that it never gets there, however slow the machine is. `other` are
    settings that point it elsewhere.
    """
    far = folder / "limits.toml"
    far.write_text('price_collar = "0.2"\nperiod_collar = "0.2"\n')
    usual = {"market": "simulator", "plan": "enterprise", "market_speed": 30.0, "control_port": free_port()}
    usual["limits_file"] = far
    places = {"lake_root": str(folder / "lake"), "state_dir": folder / "state"}
    settings = Settings(_env_file=None, **(usual | places | other))  # type: ignore[arg-type]
    stop, switch, symbols = asyncio.Event(), KillSwitch(settings.state_dir), ["BTCUSDT", "ETHUSDT"]
    async with (
        open_account(settings, plan, symbols) as account,
        open_live_vendor(settings, symbols) as vendor,
        AlertSender([]) as alerts,
    ):
        desk = LiveDesk(settings, vendor, symbols, "1m", MonitorPolicy(), alerts, account, switch)
        running = asyncio.create_task(desk.run(stop))
        try:
            yield desk, settings, account
        finally:
            stop.set()
            await asyncio.wait_for(running, 60.0)


def bars_at(first: datetime, closes: list[float]) -> pl.DataFrame:
    """Return one-minute bars with these closes."""
    stamps = [first + number * MINUTE for number in range(len(closes))]
    prices = {name: closes for name in ("open", "high", "low", "close")}
    return as_bars(pl.DataFrame({"timestamp": stamps, **prices, "volume": [1.0] * len(closes)}))
