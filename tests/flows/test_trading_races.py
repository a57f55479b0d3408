"""Answers that come late, twice or wrong, and clocks that are set: no order ends by mistake, none is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from flows import trading_cancels, trading_core
from tasks.broker.port import Account, BrokerFill, BrokerOrder
from tasks.errors import InputError
from tasks.journal.entries import Kind
from tasks.journal.journal import Journal
from tasks.orders.account import Market, TradingState
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import Fill, Side, Status
from tests.flows.trading_rig import LIMITS, SYMBOL, FaultyBroker, Rig, now, proposal, trading, waiting


class SetClock:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        """Return what it shows."""
        return now() + self.ahead


async def doubtful(rig: Rig) -> str:
    """Have an order that waits at 99 get lost on its way."""
    await rig.until_state(TradingState.ACTIVE)
    rig.broker.swallow = True
    identifier = rig.desk.propose(proposal(limit=99))
    await rig.until_status(identifier, Status.IN_DOUBT)
    rig.broker.swallow = False
    return identifier


def bounded(deadline_s: float) -> Callable[[FaultyBroker], None]:
    """Let requests live for so long, and ids be unique among open orders only."""
    return lambda broker: setattr(broker, "profile", IdempotencyProfile(IdempotencyClass.B, deadline_s, lag_s=0.0))


async def test_a_refusal_after_the_first_request_arrived_ends_nothing(tmp_path: Path) -> None:
    """Sent again, then found working, then refused: the order works all the same, and a halt cancels it."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.swallow, rig.broker.refuse_again = True, "no funds"
        identifier = rig.desk.propose(proposal(limit=99))
        await rig.until(lambda: rig.broker.submits == [identifier], "the first request is lost")
        rig.broker.released = asyncio.Event()
        await rig.until(lambda: len(rig.broker.submits) == 2, "the second request is under way")
        await rig.broker.paper.submit(rig.order(identifier).request, now())  # the first one arrives after all
        await rig.until_status(identifier, Status.ACCEPTED)
        rig.broker.released.set()
        await rig.until(lambda: "no funds" in str(rig.bodies(Kind.REPLY)), "the refusal is on record")
        assert rig.status(identifier) is Status.ACCEPTED
        rig.desk.halt("the button")
        await rig.until_status(identifier, Status.CANCELED)


async def test_an_order_written_off_that_is_open_comes_back(tmp_path: Path) -> None:
    """The broker lists an order as open that was put down as never placed: it counts again, without any stream."""

    def deaf(broker: FaultyBroker) -> None:
        bounded(0.05)(broker)
        broker.mute = True

    async with trading(tmp_path, prepare=deaf) as rig:
        identifier = await doubtful(rig)
        rig.desk.cancel(identifier)  # it shall not be sent again
        await rig.until_status(identifier, Status.NOT_PLACED)
        await rig.broker.paper.submit(rig.order(identifier).request, now())
        await rig.until_status(identifier, Status.ACCEPTED)
        assert "resurrected" in rig.order(identifier).flags


async def test_a_contradiction_leaves_the_doubt(tmp_path: Path) -> None:
    """A query answered with another quantity halts; once a person cleared that, the order is asked for again."""
    async with trading(tmp_path, prepare=lambda broker: setattr(broker, "mute", True)) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = proposal(limit=99).request("paper").client_order_id
        rig.broker.hidden.add(identifier)  # from the lists
        rig.broker.lose_replies, contradicts = True, True

        async def query(client_order_id: str, symbol: str) -> BrokerOrder | None:
            found = await rig.broker.paper.query(client_order_id, symbol)
            return replace(found, quantity=Decimal(7)) if found is not None and contradicts else found

        rig.broker.query = query  # type: ignore[method-assign]
        rig.desk.propose(proposal(limit=99))
        await rig.until_state(TradingState.HALTED)
        assert rig.status(identifier) is Status.IN_DOUBT
        rig.broker.lose_replies = contradicts = False
        rig.desk.clear("ada")
        await rig.until_status(identifier, Status.CANCELED)


async def test_cancels_that_hang_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no cancel is answered, as behind a rate limit that is shut, two of an order are under way and no more."""
    monkeypatch.setattr(trading_cancels, "RETRY_S", 0.02)
    async with trading(tmp_path) as rig:
        identifier, opened, cancel = await waiting(rig), asyncio.Event(), rig.broker.paper.cancel
        begun: list[str] = []

        async def hangs(client_order_id: str, symbol: str) -> BrokerOrder:
            begun.append(client_order_id)
            await opened.wait()
            return await cancel(client_order_id, symbol)

        rig.broker.cancel = hangs  # type: ignore[method-assign]
        rig.desk.halt("the button")
        await rig.until(lambda: len(begun) == 2, "one is repeated")
        for _ in range(10):
            await rig.until(
                lambda at=rig.desk._cancels._not_before[identifier]: at < trading_cancels.monotonic(), "due"
            )
            await rig.desk._look_after()
        assert len(begun) == 2
        opened.set()
        await rig.until_status(identifier, Status.CANCELED)


@pytest.mark.parametrize("quantity", ["1E+21", "1E+999999"])
async def test_absurd_figures_are_denied(tmp_path: Path, quantity: str) -> None:
    """A quantity that no exact arithmetic can hold is an order denied, not the end of the desk."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal(quantity=quantity))
        await rig.until_status(identifier, Status.DENIED)
        await rig.until_status(rig.desk.propose(proposal(2)), Status.FILLED)


@pytest.mark.parametrize("figures", [{"quantity": Decimal(0)}, {"price": Decimal("NaN")}, {"fee": Decimal("Infinity")}])
async def test_a_fill_of_nothing_counts_for_nothing(tmp_path: Path, figures: dict[str, Decimal]) -> None:
    """An execution whose figures are none is written down once, moves no position, and ends no desk."""
    async with trading(tmp_path) as rig:
        identifier = await waiting(rig)
        fill = odd_fill(figures)
        for _ in range(2):
            await rig.desk._reports.take_fill(BrokerFill(identifier, "paper-1", SYMBOL, Side.BUY, fill))
        assert rig.order(identifier).fills == ()
        assert ["odd-1" in str(body) for body in rig.bodies(Kind.ANOMALY)] == [True]
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)


def odd_fill(figures: dict[str, Decimal]) -> Fill:
    """Return an execution of one at 99 with some figures changed."""
    return Fill(
        **{"trade_id": "odd-1", "price": Decimal(99), "quantity": Decimal(1), "fee": Decimal(0)} | figures,
        timestamp=now(),
    )


async def test_a_fill_told_with_other_figures_is_written_down_once(tmp_path: Path) -> None:
    """Lists of the last day repeat a contradiction at every look; the journal does not grow by it."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.FILLED)
        (told,) = await rig.broker.paper.fills(now() - timedelta(days=1))
        lines = len(rig.kinds(identifier))
        for _ in range(3):
            await rig.desk._reports.take_fill(replace(told, fill=structs.replace(told.fill, price=Decimal(5))))
        assert len(rig.kinds(identifier)) == lines + 1
        assert rig.order(identifier).fills == (told.fill,)


async def test_rates_survive_a_restart_and_a_clock_that_is_set(tmp_path: Path) -> None:
    """Orders of the last minute count after a restart too, and a wall clock put forward makes none of them older."""
    limits, clock = replace(LIMITS, strategy_orders_per_minute=2), SetClock()
    async with trading(tmp_path, limits=limits, clock=clock) as rig:
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(proposal(1)), Status.FILLED)
    async with trading(tmp_path, limits=limits, clock=clock) as rig:
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(proposal(2)), Status.FILLED)
        clock.ahead = timedelta(seconds=61)
        denied = rig.desk.propose(structs.replace(proposal(3), decided_at=clock()))
        await rig.until_status(denied, Status.DENIED)
        assert "orders of test a minute" in rig.order(denied).reason


async def test_sending_again_counts_towards_the_rates(tmp_path: Path) -> None:
    """What keeps getting lost is sent as often as the rates allow, then put down; a restart forgets no request."""
    limits = replace(LIMITS, strategy_orders_per_minute=3)
    async with trading(tmp_path, limits=limits, prepare=bounded(0.02)) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.swallow = True
        lost = rig.desk.propose(proposal(1))
        await rig.until_status(lost, Status.NOT_PLACED)
        assert rig.broker.submits == [lost] * 3
        assert "fewer than 3 orders of test a minute" in rig.order(lost).reason
    async with trading(tmp_path, limits=limits) as rig:
        await rig.until_state(TradingState.ACTIVE)
        denied = rig.desk.propose(proposal(2))
        await rig.until_status(denied, Status.DENIED)
        assert "fewer than 3 orders of test a minute" in rig.order(denied).reason


async def test_a_clock_that_is_set_makes_no_request_older(tmp_path: Path) -> None:
    """Put forward, the wall clock does not outlive a request's deadline; put back, it does not prolong the doubt."""
    clock = SetClock()
    async with trading(tmp_path, clock=clock, prepare=bounded(0.5)) as rig:
        identifier = await doubtful(rig)
        clock.ahead = timedelta(seconds=30)
        await rig.desk._doubts.resolve()
        assert not rig.desk._core.doubts[identifier].busy
        clock.ahead = timedelta(seconds=-5)
        await rig.until_status(identifier, Status.ACCEPTED)
        assert rig.broker.submits == [identifier, identifier]


async def test_a_signal_of_another_time_is_not_acted_on(tmp_path: Path) -> None:
    """Where the clock was put back by an hour, signals of before are from the future: their age is not known."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        denied = rig.desk.propose(structs.replace(proposal(), decided_at=now() + timedelta(hours=1)))
        await rig.until_status(denied, Status.DENIED)
        assert "expected a signal" in rig.order(denied).reason


async def test_what_was_denied_is_no_measure_after_a_restart(tmp_path: Path) -> None:
    """A signal's part that risk denied sets no quantity for its other parts, neither at once nor after a restart."""
    parts = [
        structs.replace(proposal(quantity=quantity), leg=leg) for leg, quantity in (("a", "50"), ("b", "1"), ("c", "2"))
    ]
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(parts[0]), Status.DENIED)
        await rig.until_status(rig.desk.propose(parts[1]), Status.FILLED)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        denied = rig.desk.propose(parts[2])
        await rig.until_status(denied, Status.DENIED)
        assert "one signal" in rig.order(denied).reason


async def test_two_names_of_one_signal_end_no_desk(tmp_path: Path) -> None:
    """Parts of a signal's name that only look alike once joined are refused where they are asked for."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        with pytest.raises(InputError, match="without"):
            rig.desk.propose(structs.replace(proposal(), strategy="test|bar 1", signal_key="x"))
        with pytest.raises(InputError, match="without"):
            rig.desk.propose(structs.replace(proposal(), leg="a|b"))


async def test_a_question_that_hangs_stops_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that never answers a comparison counts as one that does not agree, and is asked again."""
    monkeypatch.setattr(trading_core, "ANSWER_S", 0.05)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        account, hung = rig.broker.account, asyncio.Event()

        async def hangs() -> Account:
            await hung.wait()
            return await account()

        rig.broker.account = hangs  # type: ignore[method-assign]
        await rig.until_state(TradingState.RECONCILING)
        rig.broker.account = account  # type: ignore[method-assign]
        await rig.until_state(TradingState.ACTIVE)


async def test_a_person_ends_the_doubt_that_nobody_else_can(tmp_path: Path) -> None:
    """Given up at a broker of class C, an order blocks its symbol until somebody cleared; nothing is sent again."""

    def poor(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.C, deadline_s=0.02, lag_s=0.0)

    async with trading(tmp_path, prepare=poor) as rig:
        identifier = await doubtful(rig)
        await rig.until(lambda: rig.desk._core.doubts[identifier].given_up, "a person is called")
        await rig.until_state(TradingState.ACTIVE)  # a comparison in between may have found it in doubt
        denied = rig.desk.propose(proposal(2))
        await rig.until_status(denied, Status.DENIED)
        assert "in doubt" in rig.order(denied).reason
        rig.desk.clear("ada")
        await rig.until_status(identifier, Status.NOT_PLACED)
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(proposal(3)), Status.FILLED)
        assert rig.broker.submits.count(identifier) == 1


async def test_a_fill_of_another_age_hides_no_other(tmp_path: Path) -> None:
    """A trade dated into the future, and a snapshot without a date, do not move from when on trades are asked for."""
    async with trading(tmp_path) as rig:
        identifier, reports = await waiting(rig), rig.desk._reports
        fill = structs.replace(odd_fill({"quantity": Decimal("0.5")}), timestamp=now() + timedelta(days=9000))
        await reports.take_fill(BrokerFill(identifier, "paper-1", SYMBOL, Side.BUY, fill))
        assert reports.since < now() - timedelta(hours=23)
        seen = await rig.broker.paper.query(identifier, SYMBOL)
        assert seen is not None
        dateless = replace(seen, filled_quantity=Decimal("0.7"), updated_at=datetime.fromtimestamp(0, UTC))
        await reports.adopt(dateless, "test")
        assert reports.is_behind
        assert reports.since > now() - timedelta(hours=25)


async def test_evidence_of_any_kind_is_written_down(tmp_path: Path) -> None:
    """A strategy's figures come from numpy and elsewhere: the line holds them, and the desk goes on."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        evidence = {"view": np.float64(1.5), "why": tmp_path, "seen": np.bool_(True), "all": np.array([1.0, 2.5])}
        await rig.until_status(rig.desk.propose(structs.replace(proposal(), evidence=evidence)), Status.FILLED)
        (signal,) = rig.bodies(Kind.SIGNAL)
        assert (signal["view"], signal["why"], signal["seen"], signal["all"]) == (1.5, str(tmp_path), True, [1.0, 2.5])


async def test_a_market_without_steps_is_not_traded(tmp_path: Path) -> None:
    """Steps of nothing, as a broken list of markets has them, deny the order and end no desk."""
    stepless = lambda symbol: Market(Decimal(100), price_step=Decimal(0), period_price=Decimal(100))  # noqa: E731
    async with trading(tmp_path, market=stepless) as rig:
        await rig.until_state(TradingState.ACTIVE)
        denied = rig.desk.propose(proposal())
        await rig.until_status(denied, Status.DENIED)
        assert "steps above 0" in rig.order(denied).reason


async def test_a_stop_asks_again_for_a_cancel_that_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange that does not find the order yet refuses its cancel: the entry is not left open at the end."""
    monkeypatch.setattr(trading_cancels, "RETRY_S", 0.02)
    async with trading(tmp_path) as rig:
        identifier = await waiting(rig)
        rig.desk._cancel_at_stop = True
        rig.broker.late_cancels = 1
    with Journal(tmp_path / "orders.sqlite") as journal:
        assert rig.broker.cancels[:2] == [identifier, identifier]
        assert journal.state.orders[identifier].status is Status.CANCELED
