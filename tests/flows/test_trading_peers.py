"""What went wrong in other traders, played to our desk: see the list in tests/orders/test_peers.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from tasks.broker.port import Connected, DefiniteRejection
from tasks.errors import DataError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.journal.state import State
from tasks.orders.account import TradingState
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.lifecycle import Event
from tasks.orders.order import Fill, Order, OrderRequest, Side, Status
from tasks.orders.states import Happening
from tests.flows.trading_rig import SYMBOL, FaultyBroker, Rig, now, proposal, trading, waiting


def events(rig: Rig, identifier: str, kind: Happening) -> int:
    """Count what happened to an order."""
    lines = (line.body() for line in rig.journal.lines(identifier) if line.kind == Kind.EVENT)
    return sum(one.kind is kind for one in lines)


async def test_a_working_order_works_on_after_a_restart(tmp_path: Path) -> None:
    """What waits at the broker is still ours after a restart, is not sent again, and its fill counts."""
    async with trading(tmp_path) as rig:
        identifier = await waiting(rig)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        assert [order.request.client_order_id for order in rig.desk.working] == [identifier]
        rig.broker.paper.on_trade(SYMBOL, 98, 5, now())
        await rig.until_status(identifier, Status.FILLED)
        assert rig.broker.submits == []


async def test_nothing_is_sent_while_stopping(tmp_path: Path) -> None:
    """A desk that waits for an answer before it ends takes no proposal, and a reconnect makes it send none."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.released = asyncio.Event()
        first = rig.desk.propose(proposal())
        await rig.until_status(first, Status.SUBMITTING)
        ending = asyncio.create_task(rig.desk._drain())
        await asyncio.sleep(0)
        second = rig.desk.propose(proposal(2))
        await rig.desk._reports.hear(Connected())
        rig.broker.released.set()
        await ending
        await rig.until_status(first, Status.FILLED)  # its fill may come after the answer that the end waited for
        assert (rig.status(second), rig.broker.submits) == (None, [first])


async def test_an_order_that_is_gone_is_not_cancelled_for_ever(tmp_path: Path) -> None:
    """A halt cancels; the broker knows no such order: it is asked about, given up aloud, and left alone."""

    def brief(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.A, deadline_s=0.0, lag_s=0.0)

    async with trading(tmp_path, prepare=brief) as rig:
        identifier = await waiting(rig)
        rig.broker.hidden.add(identifier)

        async def unknown(client_order_id: str, symbol: str) -> None:
            rig.broker.cancels.append(client_order_id)
            raise DefiniteRejection("unknown order")

        rig.broker.cancel = unknown  # type: ignore[method-assign]
        rig.desk.halt("the button")
        await rig.until(lambda: rig.status(identifier) is Status.IN_DOUBT, "nobody knows it")
        asked, lines = len(rig.broker.cancels), len(rig.kinds(identifier))
        for _ in range(20):
            await rig.desk._look_after()
        assert (len(rig.broker.cancels), len(rig.kinds(identifier))) == (asked, lines)
        assert asked <= 2
        rig.desk._core.doubts[identifier].given_up = True  # so that the end need not wait for an answer


async def test_evidence_ends_the_asking(tmp_path: Path) -> None:
    """An order in doubt shows up in the broker's stream: it is not sent again, whatever was planned."""

    def slow(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.B, deadline_s=0.5, lag_s=0.0)
        broker.swallow = True

    async with trading(tmp_path, prepare=slow) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal(limit=99))
        await rig.until_status(identifier, Status.IN_DOUBT)
        rig.broker.swallow = False
        await rig.broker.paper.submit(rig.order(identifier).request, now())  # it arrived after all
        await rig.until_status(identifier, Status.ACCEPTED)
        assert not rig.desk.doubts
        await rig.desk._doubts.resolve()
        assert rig.broker.submits == [identifier]


async def test_executions_told_again_at_a_restart_count_once(tmp_path: Path) -> None:
    """The broker's list of the last day repeats every execution; each is on record once."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.FILLED)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        (told,) = await rig.broker.paper.fills(now().replace(year=2020))
        await rig.desk._reports.take_fill(told)
        await rig.desk._reports.take_fill(replace(told, fill=replace_fill(told.fill)))
        assert events(rig, identifier, Happening.FILLED_PART) == 1
        assert rig.journal.state.positions == {("paper", SYMBOL): Decimal(1)}


def replace_fill(fill: Fill) -> Fill:
    """Return the same execution as another object."""
    return Fill(fill.trade_id, fill.price, fill.quantity, fill.fee, fill.timestamp)


async def test_orders_of_one_moment_are_orders_of_their_own(tmp_path: Path) -> None:
    """Four signals of the same instant are four orders: no clock goes into an id."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        moment, ids = now(), []
        for number in range(4):
            ids.append(rig.desk.propose(structs.replace(proposal(number), decided_at=moment)))
            await rig.until_status(ids[-1], Status.FILLED)
        assert rig.broker.submits == ids
        assert len(set(ids)) == 4


def request(name: str) -> OrderRequest:
    """Return a purchase of ten."""
    return OrderRequest(name, "paper", SYMBOL, Side.BUY, Decimal(10), signal_key=name)


def execution(trade: str, quantity: int = 1) -> Event:
    """Return a fill at a hundred."""
    return Event(Happening.FILLED_PART, fill=Fill(trade, Decimal(100), Decimal(quantity), Decimal(0), now()))


def test_an_id_that_the_broker_gives_twice_confuses_nobody() -> None:
    """After a gateway's restart two orders have one number of the broker: each fill goes to the order it names."""
    state = State()
    for name in ("first", "second"):
        state.create(request(name))
        state.follow(name, Event(Happening.SUBMIT_INTENDED))
        state.follow(name, Event(Happening.ACKED, broker_order_id="38099"))
    state.follow("second", execution("t1", 10))
    filled: dict[str, Order] = dict(state.orders)
    assert (filled["first"].status, filled["second"].status) == (Status.ACCEPTED, Status.FILLED)
    assert state.positions == {("paper", SYMBOL): Decimal(10)}


def test_no_number_of_executions_makes_it_forget_one() -> None:
    """After 12,000 others, more than any peer's window holds, the first execution is still known."""
    state = State()
    for number in range(1_200):
        name = f"order {number}"
        state.create(request(name))
        state.follow(name, Event(Happening.SUBMIT_INTENDED))
        for part in range(10):
            state.follow(name, execution(f"{number}.{part}"))
    held = dict(state.positions)
    assert state.follow("order 0", execution("0.0")).duplicate
    assert "belongs to order" in state.follow("order 1", execution("0.0")).anomaly
    assert state.positions == held == {("paper", SYMBOL): Decimal(12_000)}


def test_an_execution_whose_commit_failed_is_not_taken_for_known(tmp_path: Path) -> None:
    """Seen and applied are one transaction: what the disk did not take counts when it is told again."""
    path = tmp_path / "orders.sqlite"
    with Journal(path) as journal:
        journal.commit_now([Entry(Kind.CREATED, "a", request("a"))])
        journal.commit_now([Entry(Kind.EVENT, "a", Event(Happening.SUBMIT_INTENDED))])
        assert journal._database is not None
        journal._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(DataError):
            journal.commit_now([Entry(Kind.EVENT, "a", execution("t1")), Entry(Kind.ERROR, body="x" * 1_000_000)])
        assert not journal.state.trades
    with Journal(path) as journal:
        (change,) = journal.commit_now([Entry(Kind.EVENT, "a", execution("t1"))])
        assert change.applied is not None
        assert not change.applied.duplicate
        assert journal.state.positions == {("paper", SYMBOL): Decimal(1)}
