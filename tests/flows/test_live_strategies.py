"""Strategies at work: every closed bar once, only the newest may trade, and silence stops everything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flows.live_account import Account, Steps
from flows.live_exits import unfinished
from flows.live_plan import TradingPlan
from flows.live_strategies import Strategies
from flows.trading_proposal import Proposal
from lake.store import Lake
from tasks.broker.paper import PaperBroker
from tasks.errors import InputError
from tasks.journal.journal import Journal
from tasks.strategies.book_gate import BookGate, BookView
from tests.flows.live_rig import MINUTE, bars_at
from tests.flows.trading_rig import SYMBOL, until

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
PLAN = TradingPlan(strategy="ma_crossover", strategy_params={"fast": 1, "slow": 2})
FALLING = [110.0, 109.0, 108.0, 107.0]


class Trader:
    """An account that notes what strategies ask of it."""

    equity = Decimal(100_000)

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.halts: list[str] = []
        self.held, self.view, self.closes = Decimal(0), BookView(), True
        self.notes: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []

    def position(self, symbol: str) -> Decimal:
        """Hold what the test says."""
        return self.held

    def book(self, symbol: str) -> BookView:
        """Show the book that the test says."""
        return self.view

    def note(self, body: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        """Note a correction."""
        self.notes.append((body, changed))

    def may_close(self, symbol: str) -> bool:
        """Take closing orders where the test says so."""
        return self.closes

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
        self.lake, self.trader, self.now, self.has_bar = Lake(str(folder / "lake")), Trader(), FIRST, True
        self.traded: datetime | None = None
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
            has_bar=lambda symbol, opened: self.has_bar,
            last_trade=lambda symbol: self.traded,
            dead_man_s=dead_man_s,
        )

    async def close(self, first: datetime, closes: list[float], *, later: timedelta = timedelta()) -> None:
        """Let bars close, arrive `later` after the last close, and be handed on."""
        end = first + len(closes) * MINUTE
        self.lake.write_bars(bars_at(first, closes), symbol=SYMBOL, interval="1m", start=first, end=end)
        self.now = end + timedelta(seconds=1) + later
        await self.strategies.take(SYMBOL)

    async def watched(self) -> None:
        """Let the strategies be watched until trading is halted."""
        watching = asyncio.create_task(self.strategies.watch())
        await until(lambda: bool(self.trader.halts), lambda: "it halts")
        watching.cancel()

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
    assert Decimal("4.9") < wish.quantity <= Decimal(5)
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


@pytest.mark.parametrize("where", ["on_bar", "recall"])
async def test_a_strategy_that_fails_halts(
    where: str, tmp_path: Path, broker: PaperBroker, monkeypatch, capsys
) -> None:
    """Whatever a strategy raises, at a bar or over its history, stops trading; the page says what it was.

    It is not asked again. The log has the lines that led to it, and no values of theirs.
    """
    desk = Desk(tmp_path, broker)

    def fail(*given: object) -> None:
        held = "-".join(("canary", "51d0"))
        raise ZeroDivisionError("no volume" if held else "")

    monkeypatch.setattr(f"flows.signals.StrategyDriver.{where}", fail)
    await desk.close(FIRST, FALLING)
    await desk.close(FIRST + 4 * MINUTE, [120.0])
    await desk.close(FIRST + 5 * MINUTE, [121.0])
    assert desk.trader.halts == [f"the strategy on {SYMBOL} failed: ZeroDivisionError: no volume"]
    assert desk.told()["broken"] == "ZeroDivisionError: no volume"
    logged = capsys.readouterr().out
    assert ("in fail" in logged, "canary-51d0" in logged) == (True, False)
    before = desk.strategies._beats[SYMBOL]
    assert (desk.told()["bars"], desk.strategies._beats[SYMBOL]) == (0, before)


async def test_silence_halts(tmp_path: Path, broker: PaperBroker) -> None:
    """A strategy that nobody asks for too long halts trading; a closed market or one without trades is no silence."""
    desk = Desk(tmp_path, broker, dead_man_s=0.02)
    await desk.close(FIRST, FALLING)
    assert desk.told()["silent_s"] == 0.0
    desk.now += timedelta(seconds=70)
    await desk.watched()
    assert set(desk.trader.halts) == {f"the strategy on {SYMBOL} has been silent for more than 0.02 s"}
    desk.trader.halts.clear()
    desk.has_bar = False
    assert desk.told()["silent_s"] == 0.0
    desk.has_bar = True
    await desk.strategies.take(SYMBOL)  # nobody traded in that minute
    assert desk.told()["silent_s"] == 0.0


async def test_a_market_that_trades_and_has_no_bars_halts(tmp_path: Path, broker: PaperBroker) -> None:
    """Where the stream brings trades and the vendor has no bar of three in a row, nobody decides on what is stale."""
    desk = Desk(tmp_path, broker)
    await desk.close(FIRST, FALLING)
    last = FIRST + 4 * MINUTE

    def stopped(minutes: float, traded: datetime | None) -> datetime | None:
        desk.now, desk.traded = last + timedelta(minutes=minutes), traded
        return desk.strategies._stopped(SYMBOL)

    first = last + timedelta(seconds=9)
    assert stopped(50, None) is None  # nobody traded
    assert stopped(50, last - MINUTE) is None  # not since the newest bar
    assert stopped(1, first) is None
    assert stopped(3.2, last + 3 * MINUTE) is None
    assert stopped(4.2, last + 4 * MINUTE) == first
    desk.strategies._dead_man_s = 2.0
    await desk.watched()
    assert set(desk.trader.halts) == {f"{SYMBOL} traded at {first}, and no bar of it has come since"}
    await desk.close(last, [106.0])
    assert stopped(4.3, last + 4 * MINUTE) is None


async def test_a_market_without_any_bar_halts_too(tmp_path: Path, broker: PaperBroker) -> None:
    """A strategy that never began, because no bar of its symbol ever came, is no calm one while the market trades."""
    desk = Desk(tmp_path, broker)
    desk.now, desk.traded = FIRST + timedelta(minutes=50), FIRST - MINUTE
    await desk.strategies.take(SYMBOL)
    assert desk.strategies._stopped(SYMBOL) is None  # it traded before this run only
    desk.traded = first = FIRST + timedelta(seconds=9)
    desk.now = FIRST + timedelta(minutes=3)
    assert desk.strategies._stopped(SYMBOL) is None
    desk.now, desk.traded = FIRST + timedelta(minutes=4.2), FIRST + 4 * MINUTE
    assert desk.strategies._stopped(SYMBOL) == first


def test_a_strategy_that_cannot_run_is_refused_before_it_begins(tmp_path: Path, broker: PaperBroker) -> None:
    """Parameters that the strategy does not take end the start, not the first bar."""
    desk = Desk(tmp_path, broker, TradingPlan(strategy="ma_crossover", strategy_params={"fast": 9, "slow": 2}))
    with pytest.raises(InputError, match="fast < slow"):
        desk.strategies.prepare()


async def test_a_correction_is_heard_and_written_down(tmp_path: Path, broker: PaperBroker) -> None:
    """Bars restated or filled in after the fact are known before the next decision, and orders they touch are named."""
    desk = Desk(tmp_path, broker)
    await desk.close(FIRST, FALLING)
    entered = FIRST + 4 * MINUTE
    await desk.close(entered, [120.0])
    assert len(desk.trader.proposals) == 1
    desk.trader.held = Decimal(20)
    await desk.close(entered, [100.0])  # nothing new closed
    assert desk.strategies._runs[SYMBOL].driver.bars["close"][-1] == 100.0
    ((told, changed),) = desk.trader.notes
    assert (told["cause"], told["bars"]) == ("data revision", 1)
    assert (told["corrected"][0]["close_was"], told["corrected"][0]["close"]) == (120.0, 100.0)
    assert list(changed) == [f"{SYMBOL}|1m|long|{entered.isoformat()}"]
    assert (changed[f"{SYMBOL}|1m|long|{entered.isoformat()}"]["was"], desk.told()["restated"]) == (1, 1)
    await desk.close(entered + MINUTE, [130.0])
    assert (len(desk.trader.proposals), desk.told()["bars"]) == (1, 2)  # it is long already: not chased twice


async def test_the_rest_of_an_exit_is_asked_for_between_bars(tmp_path: Path, broker: PaperBroker) -> None:
    """After ten seconds, then twice as long each time, anew once some of it was sold, and never while it may not."""
    desk = Desk(tmp_path, broker)
    await desk.close(FIRST, [*FALLING, 120.0])
    desk.trader.held = Decimal(20)
    await desk.close(FIRST + 5 * MINUTE, [90.0])
    (exit_,) = desk.strategies._exits
    asked = desk.trader.proposals

    def look(at_s: float, held: str) -> str:
        desk.trader.held = Decimal(held)
        found = unfinished([exit_], desk.trader, at_s, desk.now)
        return str(found.quantity.normalize()) if found else ""

    assert [one.closes for one in asked] == [True]
    assert [look(at, "20") for at in (0, 9, 10, 29, 30)] == ["", "", "2E+1", "", "2E+1"]
    assert [look(at, "7") for at in (31, 40, 41)] == ["", "", "7"]
    desk.trader.closes = False
    assert look(100, "7") == ""
    desk.trader.closes = True
    assert [look(101, "7"), look(102, "0"), look(103, "0")] == ["7", "", ""]


async def test_an_exit_that_a_restart_missed_is_asked_for(tmp_path: Path, broker: PaperBroker) -> None:
    """A position that a bar wanted closed while nobody ran is closed before the next bar; nothing is opened so late."""
    desk = Desk(tmp_path, broker)
    desk.trader.held = Decimal(20)
    await desk.close(FIRST, [*FALLING, 120.0, 90.0])
    assert (desk.told()["bars"], desk.told()["wants"], desk.trader.proposals) == (0, "flat", [])
    ends = [unfinished(desk.strategies._exits, desk.trader, at_s, desk.now) for at_s in (0.0, 10.0)]
    assert [one and (one.side, one.quantity, one.closes) for one in ends] == [None, ("sell", 20, True)]
    again = Desk(tmp_path / "again", broker)
    await again.close(FIRST, [*FALLING, 120.0])
    assert again.told()["wants"] == "long"
    assert [unfinished(again.strategies._exits, again.trader, at_s, again.now) for at_s in (0.0, 10.0)] == [None, None]
    await again.close(FIRST + 5 * MINUTE, [121.0])
    assert again.trader.proposals == []


async def test_a_gate_of_the_run_reaches_the_proposal(tmp_path: Path, broker: PaperBroker) -> None:
    """The gate sees the book of the moment; what it objects to goes to the desk with the wish, to be on record."""
    plan = TradingPlan("ma_crossover", {"fast": 1, "slow": 2}, book_gate=BookGate(min_pressure=2.0))
    desk = Desk(tmp_path, broker, plan)
    await desk.close(FIRST, FALLING)
    desk.trader.view = BookView.of((99.0, 3.0), (101.0, 2.0), 0.1)
    await desk.close(FIRST + 4 * MINUTE, [120.0])
    (wish,) = desk.trader.proposals
    assert wish.objection == "expected a pressure of at least 2 towards the entry, found 1.5"
    assert wish.signal()["book"] == desk.trader.view
