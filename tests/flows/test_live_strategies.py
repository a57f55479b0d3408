"""Strategies at work: every closed bar once, only the newest may trade, and silence stops everything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from flows.live_account import Account, Steps
from flows.live_plan import TradingPlan
from flows.live_strategies import Strategies
from flows.trading_proposal import Proposal
from lake.store import Lake
from tasks.broker.paper import PaperBroker
from tasks.errors import InputError
from tasks.journal.journal import Journal
from tests.flows.live_rig import MINUTE, bars_at
from tests.flows.trading_rig import SYMBOL

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
PLAN = TradingPlan(strategy="ma_crossover", strategy_params={"fast": 1, "slow": 2})
FALLING = [110.0, 109.0, 108.0, 107.0]


class Trader:
    """An account that notes what strategies ask of it."""

    equity = Decimal(100_000)

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.halts: list[str] = []

    def position(self, symbol: str) -> Decimal:
        """Hold nothing."""
        return Decimal(0)

    def price(self, symbol: str) -> Decimal | None:
        """Trade at a hundred."""
        return Decimal(100)

    def propose(self, proposal: Proposal) -> str:
        """Note a wish."""
        self.proposals.append(proposal)
        return ""

    def halt(self, reason: str) -> None:
        """Note a halt."""
        self.halts.append(reason)


class Desk:
    """Strategies on a lake that the test fills, at a time that the test sets."""

    def __init__(self, folder: Path, broker: PaperBroker, plan: TradingPlan = PLAN, dead_man_s: float = 60.0) -> None:
        self.lake, self.trader, self.now, self.is_open = Lake(str(folder / "lake")), Trader(), FIRST, True
        account = Account(
            "paper", broker, Journal(folder / "journal.db"), plan, {SYMBOL: SYMBOL}, {SYMBOL: Steps(Decimal("0.001"))}
        )
        self.strategies = Strategies(
            account,
            [SYMBOL],
            "1m",
            lake=self.lake,
            trader=self.trader,
            market_now=lambda: self.now,
            wall_now=lambda: self.now,
            is_open=lambda symbol, moment: self.is_open,
            dead_man_s=dead_man_s,
        )

    async def close(self, first: datetime, closes: list[float], *, later: timedelta = timedelta()) -> None:
        """Let bars close, arrive `later` after the last close, and be handed on."""
        end = first + len(closes) * MINUTE
        self.lake.write_bars(bars_at(first, closes), symbol=SYMBOL, interval="1m", start=first, end=end)
        self.now = end + timedelta(seconds=1) + later
        await self.strategies.take(SYMBOL)

    def told(self) -> dict:
        """Return what the page is told of the one strategy."""
        return self.strategies.describe()[0]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PaperBroker]:
    """Return a paper broker that nobody asks."""
    broker = PaperBroker(tmp_path / "paper.db", clock=lambda: FIRST)
    yield broker
    broker._ledger.close()


async def test_every_bar_is_handed_over_once(tmp_path: Path, broker: PaperBroker) -> None:
    """What is there at the start is history; each later bar is decided on once, under the bar's own key."""
    desk = Desk(tmp_path, broker)
    assert desk.strategies.prepare() == 500
    await desk.close(FIRST, FALLING)
    assert (desk.told()["bars"], desk.trader.proposals) == (0, [])
    await desk.close(FIRST + 4 * MINUTE, [120.0])
    await desk.strategies.take(SYMBOL)
    (wish,) = desk.trader.proposals
    assert (wish.symbol, wish.side, wish.quantity % Decimal("0.001")) == (SYMBOL, "buy", 0)
    assert Decimal(19) < wish.quantity <= Decimal(20)
    assert wish.signal_key == f"{SYMBOL}|1m|long|{(FIRST + 4 * MINUTE).isoformat()}"
    assert (desk.told()["bars"], desk.told()["signals"], desk.told()["wants"]) == (1, 1, "long")


async def test_after_an_outage_only_the_newest_bar_may_trade(tmp_path: Path, broker: PaperBroker) -> None:
    """Of several late bars the older ones only feed the strategy; one that another has followed trades nothing."""
    desk = Desk(tmp_path, broker)
    await desk.close(FIRST, FALLING)
    await desk.close(FIRST + 4 * MINUTE, [120.0, 100.0, 90.0])
    assert desk.trader.proposals == []
    await desk.close(FIRST + 7 * MINUTE, [120.0], later=MINUTE)
    assert desk.trader.proposals == []
    assert (desk.told()["bars"], desk.told()["late"], desk.told()["wants"]) == (4, 1, "long")


async def test_a_stop_takes_no_more_signals(tmp_path: Path, broker: PaperBroker) -> None:
    """Once the run ends, a bar that closes leads to nothing."""
    desk = Desk(tmp_path, broker)
    await desk.close(FIRST, FALLING)
    desk.strategies.stop()
    await desk.close(FIRST + 4 * MINUTE, [120.0])
    assert desk.trader.proposals == []


async def test_a_strategy_that_fails_halts(tmp_path: Path, broker: PaperBroker, monkeypatch) -> None:
    """Whatever a strategy raises stops trading, the page says what it was, and it is not asked again."""
    desk = Desk(tmp_path, broker)
    await desk.close(FIRST, FALLING)

    def fail(*given: object) -> None:
        raise ZeroDivisionError("no volume")

    monkeypatch.setattr("flows.signals.StrategyDriver.on_bar", fail)
    await desk.close(FIRST + 4 * MINUTE, [120.0])
    await desk.close(FIRST + 5 * MINUTE, [121.0])
    assert desk.trader.halts == [f"the strategy on {SYMBOL} failed: ZeroDivisionError: no volume"]
    assert desk.told()["broken"] == "ZeroDivisionError: no volume"
    before = desk.strategies._beats[SYMBOL]
    assert (desk.told()["bars"], desk.strategies._beats[SYMBOL]) == (0, before)


async def test_silence_halts(tmp_path: Path, broker: PaperBroker) -> None:
    """A strategy that nobody asks for too long halts trading; a closed market or one without trades is no silence."""
    desk = Desk(tmp_path, broker, dead_man_s=0.02)
    await desk.close(FIRST, FALLING)
    assert desk.told()["silent_s"] == 0.0
    desk.now += timedelta(seconds=70)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.strategies.watch(), 0.1)
    assert set(desk.trader.halts) == {f"the strategy on {SYMBOL} has been silent for more than 0.02 s"}
    desk.trader.halts.clear()
    desk.is_open = False
    assert desk.told()["silent_s"] == 0.0
    desk.is_open = True
    await desk.strategies.take(SYMBOL)  # nobody traded in that minute
    assert desk.told()["silent_s"] == 0.0


def test_a_strategy_that_cannot_run_is_refused_before_it_begins(tmp_path: Path, broker: PaperBroker) -> None:
    """Parameters that the strategy does not take end the start, not the first bar."""
    desk = Desk(tmp_path, broker, TradingPlan(strategy="ma_crossover", strategy_params={"fast": 9, "slow": 2}))
    with pytest.raises(InputError, match="fast < slow"):
        desk.strategies.prepare()
