"""The order half of a live run: what the stream shows reaches risk and broker, and a person can always stop it."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from flows import status_trading
from flows.live import single_instance
from flows.live_plan import TradingPlan
from flows.live_switch import KillSwitch, forward, lock_path, pid_path
from flows.live_view import AccountView
from tasks.errors import InputError
from tasks.journal.entries import Kind
from tasks.journal.story import story as journal_story
from tasks.orders.account import Market, TradingState
from tasks.orders.order import TERMINAL, Fill, Order, Side, Status
from tasks.orders.position import fold
from tasks.strategies.book_gate import BookView
from tests.flows.live_rig import LiveRig, market_desk, opened, trading
from tests.flows.trading_rig import SYMBOL, proposal


async def filled(rig: LiveRig, number: int = 1, side: Side = Side.BUY) -> str:
    """Have one unit traded at the market."""
    await rig.until_state(TradingState.ACTIVE)
    identifier = rig.trading.propose(proposal(number, side=side))
    await rig.until(lambda: status(rig, identifier) is Status.FILLED, f"{identifier} is filled")
    return identifier


def status(rig: LiveRig, identifier: str) -> Status | None:
    """Return where an order stands, None before it is on record."""
    order = rig.account.journal.state.orders.get(identifier)
    return order.status if order else None


async def test_the_book_the_stream_brings_is_the_book_that_fills(tmp_path: Path) -> None:
    """An order fills at the streamed ask, and the page's figures are the fold of the fills."""
    async with trading(tmp_path) as rig:
        await filled(rig, 1)
        rig.quote(bid=109, ask=111)
        await filled(rig, 2, Side.SELL)
        told = rig.told()
    (held,) = told["positions"]
    assert (held["quantity"], held["realised"], held["fees"]) == (0.0, 8.0, 0.21)
    assert told["profit"] == {"realised": 8.0, "unrealised": 0.0, "fees": 0.21, "net": pytest.approx(7.79)}
    assert [one["price"] for one in told["fills"]] == [109.0, 101.0]
    assert told["counts"] == {"orders": 2, "fills": 2, "working": 0, "in_doubt": 0}
    assert {(one["asked"], one["type"], one["time_in_force"]) for one in told["orders"]} == {("market", "limit", "ioc")}
    assert told["journal"]["lines"][0]["text"]
    async with trading(tmp_path) as rig:
        assert rig.told()["profit"] == told["profit"]
        assert rig.told()["fills"] == told["fills"]


async def test_profit_does_not_depend_on_how_fills_arrive(tmp_path: Path) -> None:
    """A fill that comes late, or is taken back, leaves the position that all fills in their order make."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    fills = [
        (side, Fill(str(at), Decimal(price), Decimal(1), Decimal("0.1"), noon + timedelta(seconds=at)))
        for at, (side, price) in enumerate([(Side.BUY, 100), (Side.SELL, 103), (Side.SELL, 105), (Side.BUY, 99)])
    ]
    async with opened(tmp_path) as account:
        view, orders = AccountView(account, lambda symbol: Market(None)), account.journal.state.orders
        for number in (3, 0, 2, 1):
            side, fill = fills[number]
            request = proposal(number, side=side).request("paper")
            orders[request.client_order_id] = Order(request, Status.FILLED, fills=(fill,))
            view.take(orders[request.client_order_id])
        assert view.positions[SYMBOL] == fold(fills)
        taken_back = Order(request, Status.FILLED)
        orders[request.client_order_id] = taken_back
        view.take(taken_back)
        assert view.positions[SYMBOL] == fold([fills[0], fills[2], fills[3]])
        assert AccountView(account, lambda symbol: Market(None)).positions == view.positions


async def test_nothing_is_entered_on_a_book_that_nobody_vouches_for(tmp_path: Path) -> None:
    """After a gap the market is not valid, entries are denied by the data control, and what is held keeps its price."""
    async with trading(tmp_path) as rig:
        rig.trade(100.0)
        assert rig.desk.market(SYMBOL).reference_price == Decimal(100)
        await rig.until_state(TradingState.ACTIVE)
        rig.gap()
        market = rig.desk.market(SYMBOL)
        assert (market.valid, market.reference_price) == (False, Decimal(100))
        identifier = rig.trading.propose(proposal(1))
        await rig.until(lambda: status(rig, identifier) is Status.DENIED, "the entry is denied")
        assert "vouches" in rig.told()["orders"][0]["reason"]
        assert rig.trading.price(SYMBOL) is None
        assert not rig.desk.market("UNKNOWN").valid


async def test_only_what_the_market_really_does_fills(tmp_path: Path) -> None:
    """A crossed book and a trade fetched after a gap fill nothing; a fresh trade through the limit does."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.trading.propose(proposal(1, limit=99))
        await rig.until(lambda: status(rig, identifier) is Status.ACCEPTED, "the order waits")
        rig.quote(bid=98.5, ask=98.0)
        rig.trade(98.0, late_ms=60_000)
        await rig.account.paper.settle()
        assert status(rig, identifier) is Status.ACCEPTED
        rig.trade(98.0)
        await rig.until(lambda: status(rig, identifier) is Status.FILLED, "the order is filled")


async def test_halt_and_clear_by_hand(tmp_path: Path) -> None:
    """HALT cancels what is open and calls a person; only a named person ends it, and the name is on record."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.trading.propose(proposal(1, limit=99))
        await rig.until(lambda: status(rig, identifier) is Status.ACCEPTED, "the order waits")
        with pytest.raises(InputError, match="found it is not"):
            await rig.trading.clear_action({"operator": "Ada"})
        await rig.trading.halt_action({})
        await rig.until(lambda: status(rig, identifier) is Status.CANCELED, "the order is cancelled")
        assert rig.called == [("paper: trading halted", "the page's HALT button was pressed")]
        assert (rig.told()["state"], rig.told()["working"]) == ("halted", [])
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.HALTED)
        with pytest.raises(InputError, match="name"):
            await rig.trading.clear_action({"operator": "  "})
        await rig.trading.clear_action({"operator": "Ada"})
        await filled(rig, 2)
        line = rig.account.journal.last(Kind.OPERATOR)
        assert line is not None
        assert line.body() == {"clear": "Ada"}


async def test_a_halt_hears_each_wish_once(tmp_path: Path) -> None:
    """What is asked for again at every bar, for days, is denied on record once; the journal does not grow."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.trading.halt("a person said so")
        await rig.until_state(TradingState.HALTED)
        orders = rig.account.journal.state.orders
        assert [rig.trading.propose(structs.replace(proposal(1), leg=f"again {bar}")) for bar in range(3)] == [""] * 3
        identifier = rig.trading.propose(proposal(1))
        await rig.until(lambda: status(rig, identifier) is Status.DENIED, "the first is denied")
        assert list(orders) == [identifier]


async def test_the_file_halts_for_as_long_as_it_lies_there(tmp_path: Path) -> None:
    """A file HALT stops trading with its words as the reason; it is cleared only once the file is gone."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.switch.path.write_text("lunch")
        await rig.until_state(TradingState.HALTED)
        assert rig.trading.desk.halted_for.endswith("exists: lunch")
        with pytest.raises(InputError, match="remove it first"):
            await rig.trading.clear_action({"operator": "Ada"})
        rig.switch.path.unlink()
        await rig.trading.clear_action({"operator": "Ada"})
        await rig.until_state(TradingState.ACTIVE)


async def test_the_signal_halts(tmp_path: Path) -> None:
    """SIGUSR1, passed on by a process that only serves, stops trading; with nobody trading it leaves the file.

    What a crash left in the number's file is nobody's address any more.
    """
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        with single_instance(lock_path(tmp_path)), rig.switch.on_signal():
            assert pid_path(tmp_path).read_text() == str(os.getpid())
            forward(tmp_path)
            await rig.until_state(TradingState.HALTED)
    assert "SIGUSR1" in rig.trading.desk.halted_for
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    pid_path(tmp_path).write_text(str(os.getpid()))  # SIGUSR1 would end this process
    forward(tmp_path)
    assert KillSwitch(tmp_path).path.exists()


async def test_a_halt_that_comes_too_late_holds_for_the_next_run(tmp_path: Path) -> None:
    """Button and signal of a run whose desk has ended already leave the file that the next one finds."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
    await rig.trading.halt_action({"operator": "Ada"})
    assert rig.switch.path.read_text() == "the page's HALT button was pressed by Ada"
    rig.switch.path.unlink()
    with rig.switch.on_signal():
        rig.switch.pull()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert rig.switch.path.read_text() == "SIGUSR1 was received"
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.HALTED)


async def test_a_halt_that_never_reached_the_desk_is_left_behind(tmp_path: Path, monkeypatch) -> None:
    """What was asked for while the desk ended, and is not on record, is found by the next run."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        monkeypatch.setattr(rig.trading.desk, "halt", lambda reason: None)  # as in the queue of a desk that is ending
        rig.trading.halt("a person said so")
        assert not rig.switch.path.exists()
    assert rig.switch.path.read_text() == "a person said so"


async def test_a_halt_cancels_what_is_open_whoever_cannot_be_told(tmp_path: Path, monkeypatch, capsys) -> None:
    """A messenger that fails keeps neither the halt nor the cancels from happening, and what it knew is not logged."""

    def fail(*told: object) -> None:
        key = "-".join(("canary", "51d0"))
        raise RuntimeError(f"no events today for {key}")

    monkeypatch.setattr("flows.live_trading.tell_halted", fail)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.trading.propose(proposal(1, limit=99))
        await rig.until(lambda: status(rig, identifier) is Status.ACCEPTED, "the order waits")
        rig.trading.halt("a person said so")
        await rig.until(lambda: status(rig, identifier) is Status.CANCELED, "the order is cancelled")
    logged = capsys.readouterr().out
    assert ("halt.not_told" in logged, "canary-51d0" in logged) == (True, False)


@pytest.mark.parametrize(("strategy", "told"), [("", True), ("ma_crossover", False)])
async def test_a_position_that_no_strategy_trades_is_told(strategy: str, told: bool, tmp_path: Path) -> None:
    """What an earlier run left, and this one's strategy will never close, is no secret."""
    async with trading(tmp_path) as rig:
        await filled(rig)
    async with trading(tmp_path, TradingPlan(strategy=strategy)) as rig:
        await rig.until_state(TradingState.ACTIVE)
        words = ("paper: position unattended", f"1 {SYMBOL} is held, and no strategy of this run trades it")
        assert (words in rig.called) is told


async def test_a_halt_is_on_record_whatever_its_words_are(tmp_path: Path) -> None:
    """Half a surrogate, as it comes out of damaged JSON or file names, is written as a "?": no journal takes it."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.trading.halt("the strategy failed: no file \udcff")
        await rig.until_state(TradingState.HALTED)
        assert rig.trading.desk.halted_for == "the strategy failed: no file ?"


def test_a_signal_reaches_a_run_that_is_just_beginning_or_ending(tmp_path: Path) -> None:
    """Where somebody holds the lock and no process with that number is there, the file is left in its place."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    switch = KillSwitch(tmp_path)
    with single_instance(lock_path(tmp_path)):
        for number in (None, "", str(gone.pid)):
            if number is not None:
                pid_path(tmp_path).write_text(number)
            forward(tmp_path)
            assert switch.path.read_text() == "SIGUSR1 was received"
            switch.path.unlink()


async def test_a_stop_leaves_no_entry_behind(tmp_path: Path) -> None:
    """At the end open entries are cancelled and answered, and the last line says that the end was clean."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.trading.propose(proposal(1, limit=99))
        await rig.until(lambda: status(rig, identifier) is Status.ACCEPTED, "the order waits")
    async with opened(tmp_path) as account:
        assert account.journal.state.orders[identifier].status is Status.CANCELED
        *_, end, start = account.journal.lines()
        assert (end.kind, end.body(), start.kind) == ("shutdown", {"in_doubt": []}, "start")
        assert market_desk(account).market(SYMBOL).reference_price is None


async def test_a_gated_entry_is_on_record_with_what_the_book_said(tmp_path: Path) -> None:
    """What a strategy's gate refuses never reaches the broker; its story tells the book, the bar and the reason."""
    evidence = {"bar": {"close": 101.5}, "book": BookView.of((99.0, 3.0), (101.0, 2.0), 0.1)}
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.trading.propose(
            structs.replace(proposal(1), objection="expected a calm book", evidence=evidence)
        )
        await rig.until(lambda: status(rig, identifier) is Status.DENIED, "the gate denies")
    told = "\n".join(story(identifier, tmp_path))
    assert "refused by book_gate: expected a calm book" in told
    assert '"pressure":1.5' in told
    assert '"close":101.5' in told


async def test_the_terminal_tells_what_the_account_may_do_and_holds(tmp_path: Path) -> None:
    """`klinehouse status` shows state, reason, money, positions, open orders and doubt as the page does."""
    async with trading(tmp_path) as rig:
        await filled(rig)
        waiting = rig.trading.propose(proposal(2, limit=99))
        await rig.until(lambda: status(rig, waiting) is Status.ACCEPTED, "the order waits")
        text = rendered(rig)
        for words in ("Trading: ACTIVE: orders pass", "paper money", "1 orders open, 0 in doubt", waiting, "accepted"):
            assert words in text
        row = next(line for line in text.splitlines() if "101" in line)
        assert [cell.strip() for cell in row.split("│")[1:-1]] == [SYMBOL, "1", "101", "100", "-1.00", "+0.00", ""]
        rig.trading.halt("a person said so")
        await rig.until_state(TradingState.HALTED)
        assert "Trading: HALTED: a person said so" in rendered(rig)


def rendered(rig: LiveRig) -> str:
    """Return what the terminal shows of the account."""
    shown = Console(width=140, file=io.StringIO(), record=True)
    shown.print(status_trading.trading(rig.told()))
    return shown.export_text()


async def test_an_exit_never_opens_a_position(tmp_path: Path) -> None:
    """A closing order that nothing is left for, or that another is on its way for, is denied."""
    async with trading(tmp_path) as rig:
        await filled(rig)
        first = rig.trading.propose(structs.replace(proposal(2, Side.SELL, limit=101), closes=True))
        await rig.until(lambda: status(rig, first) is Status.ACCEPTED, "the exit waits")
        assert not rig.trading.may_close(SYMBOL)
        second = rig.trading.propose(structs.replace(proposal(3, Side.SELL), closes=True))
        await rig.until(lambda: status(rig, second) is Status.DENIED, "the second exit is denied")
        assert rig.trading.position(SYMBOL) == 1


async def test_the_rest_of_an_exit_may_be_sent_once_it_ended(tmp_path: Path) -> None:
    """Where the book had only some of it the rest may follow; what the broker refused waits for the next close."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        for number in (1, 2):
            rig.quote()
            identifier = rig.trading.propose(proposal(number, quantity="8"))
            await rig.until(lambda name=identifier: status(rig, name) is Status.FILLED, "eight are bought")
        rig.quote()
        leaving = rig.trading.propose(structs.replace(proposal(3, Side.SELL, quantity="16"), closes=True))
        await rig.until(lambda: status(rig, leaving) in TERMINAL, "the book had ten of them")
        assert rig.trading.position(SYMBOL) == 6
        assert rig.trading.may_close(SYMBOL)
        assert rig.account.paper is not None
        rig.account.paper.halt(SYMBOL)
        refused = rig.trading.propose(structs.replace(proposal(4, Side.SELL, quantity="6"), closes=True))
        await rig.until(lambda: status(rig, refused) is Status.REJECTED, "the broker refuses")
        assert not rig.trading.may_close(SYMBOL)


async def test_a_correction_is_part_of_the_story_of_the_order_it_touches(tmp_path: Path) -> None:
    """The journal has the corrected bars, and an order decided on one of them says so in its story."""
    async with trading(tmp_path, TradingPlan("test")) as rig:
        identifier = await filled(rig)
        words = {"cause": "data revision", "timestamp": "2026-03-02T00:07:00Z"}
        rig.trading.note({**words, "bars": 1}, {proposal(1).signal_key: words, "bar 99": words})
        await rig.until(lambda: rig.account.journal.last(Kind.DATA) is not None, "it is written down")
        noted = [line for line in rig.account.journal.lines() if line.kind == Kind.DATA]
    assert [line.client_order_id for line in noted] == ["", identifier]
    assert '"cause":"data revision"' in "\n".join(story(identifier, tmp_path))


def story(identifier: str, folder: Path) -> list[str]:
    """Return what `explain` tells of an order."""
    with closing(sqlite3.connect(folder / "journal.db")) as database:
        return list(journal_story(database, identifier))
