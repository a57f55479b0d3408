"""What must not be sent although it was decided, and what is not believed although it was said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic

import pytest
from msgspec import structs

from flows import trading_cancels
from flows.trading import OrderDesk
from flows.trading_core import event
from tasks.broker.paper import PaperBroker
from tasks.broker.port import BrokerFill, BrokerOrder, Recorded, on_disk
from tasks.errors import ConfigurationError, InputError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.account import TradingState
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import Fill, OrderRequest, Pending, Side, Status
from tasks.orders.states import Happening
from tests.flows.trading_rig import LIMITS, SYMBOL, FaultyBroker, Rig, market_at, now, proposal, trading, waiting


async def test_what_is_halted_while_it_waits_for_its_turn_does_not_leave(tmp_path: Path) -> None:
    """An entry behind a rate limit, or waiting for a connection, is taken back by a halt, not cancelled later."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        turn, submit = asyncio.Event(), rig.broker.submit

        async def metered(request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
            await turn.wait()
            return await submit(request, sent_at, recorded)

        rig.broker.submit = metered  # type: ignore[method-assign]
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.SUBMITTING)
        rig.desk.halt("the button")
        await rig.until(lambda: rig.order(identifier).pending is Pending.CANCEL, "it shall be cancelled")
        turn.set()
        await rig.until_status(identifier, Status.NOT_PLACED)
        assert rig.broker.submits == []


async def test_an_order_that_the_position_tells_of_is_not_sent_again(tmp_path: Path) -> None:
    """A query that does not find it proves nothing beside a position that differs: a person is called instead."""

    def blind(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.B, 0.05, lag_s=0.0)
        broker.mute = broker.lose_replies = True
        broker.hidden.add(proposal().request("paper").client_order_id)

    async with trading(tmp_path, prepare=blind) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.NOT_PLACED)
        assert rig.broker.submits == [identifier]
        await rig.until_state(TradingState.HALTED)
        assert SYMBOL in rig.desk.halted_for


async def test_an_order_that_ended_and_is_listed_as_open_halts(tmp_path: Path) -> None:
    """The broker may be a moment late; where it insists, an order works that neither limits nor a halt reach."""
    async with trading(tmp_path) as rig:
        identifier = await waiting(rig)
        seen = await rig.broker.paper.query(identifier, SYMBOL)
        assert seen is not None
        await rig.desk._reports.adopt(replace(seen, status=Status.CANCELED), "an answer that was wrong")
        assert rig.status(identifier) is Status.CANCELED
        await rig.until_state(TradingState.HALTED)
        assert identifier in rig.desk.halted_for


async def test_an_order_that_was_written_off_and_lives_leaves_reducing(tmp_path: Path) -> None:
    """What proved that it was never placed is wrong, and may be of the next order too; a restart forgets it not."""

    def deaf(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.B, 0.05, lag_s=0.0)
        broker.mute = True

    async with trading(tmp_path, prepare=deaf) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.swallow = True
        identifier = rig.desk.propose(proposal(limit=99))
        await rig.until_status(identifier, Status.IN_DOUBT)
        rig.desk.cancel(identifier)  # it shall not be sent again
        await rig.until_status(identifier, Status.NOT_PLACED)
        await rig.broker.paper.submit(rig.order(identifier).request, now())
        await rig.until_status(identifier, Status.ACCEPTED)
        await rig.until_state(TradingState.REDUCING)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.REDUCING)


async def test_doubts_of_the_last_minute_count_after_a_restart(tmp_path: Path) -> None:
    """One before and one after a start are two within a minute; what the start itself left in doubt is none."""
    limits = replace(LIMITS, max_doubt_and_rejects=2)

    def poor(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.C, deadline_s=0.02, lag_s=0.0)
        broker.swallow = True

    def given_up(rig: Rig, identifier: str) -> bool:
        doubt = rig.desk._core.doubts.get(identifier)
        return doubt is not None and doubt.given_up

    async with trading(tmp_path, limits=limits, prepare=poor) as rig:
        await rig.until_state(TradingState.ACTIVE)
        first = rig.desk.propose(proposal(limit=99))
        await rig.until_status(first, Status.IN_DOUBT)
    with Journal(tmp_path / "orders.sqlite") as journal:
        crashed = proposal(2, limit=99).request("paper")
        name = crashed.client_order_id
        journal.commit_now([Entry(Kind.CREATED, name, crashed), event(name, Happening.SUBMIT_INTENDED)])
    async with trading(tmp_path, limits=limits, prepare=poor) as rig:
        await rig.until(lambda: given_up(rig, first) and given_up(rig, name), "both are given up")
        await rig.until_state(TradingState.ACTIVE)
        rig.desk.propose(structs.replace(proposal(3, limit=99), symbol="ETHUSDT"))
        await rig.until_state(TradingState.HALTED)
        assert "in doubt" in rig.desk.halted_for


async def test_a_signal_without_a_zone_is_the_callers_error(tmp_path: Path) -> None:
    """Its age could not be told: it is refused where it is proposed, and the desk goes on."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        with pytest.raises(InputError, match="with a zone"):
            rig.desk.propose(structs.replace(proposal(), decided_at=datetime(2026, 1, 1)))
        await rig.until_status(rig.desk.propose(proposal(2)), Status.FILLED)


async def test_strangers_trades_are_told_apart_by_symbol(tmp_path: Path) -> None:
    """Exchanges number the trades of each symbol anew: another one's trade under the same number is on record too."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        fill = Fill("7", Decimal(99), Decimal(1), Decimal(0), now())
        for symbol in (SYMBOL, "ETHUSDT", SYMBOL):
            await rig.desk._reports.take_fill(BrokerFill("by hand", "1", symbol, Side.BUY, fill))
        told = [body["unknown_fill"]["symbol"] for body in rig.bodies(Kind.ANOMALY)]
        assert told == [SYMBOL, "ETHUSDT"]


async def test_a_journal_is_of_one_broker(tmp_path: Path) -> None:
    """Another one knows none of its orders: asked for what is in doubt, it would prove that nothing was placed."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
    broker = FaultyBroker(PaperBroker(tmp_path / "another.sqlite", clock=now), name="another")
    with Journal(tmp_path / "orders.sqlite") as journal, pytest.raises(ConfigurationError, match="traded at faulty"):
        OrderDesk(journal, broker, account="paper", limits=LIMITS, market=market_at(), clock=now)  # type: ignore[arg-type]
    await broker.close()


@pytest.mark.parametrize(("retention_s", "aged"), [(float("inf"), False), (600.0, True)])
async def test_a_clock_put_forward_beside_a_crash_makes_no_request_older(
    tmp_path: Path, retention_s: float, aged: bool
) -> None:
    """It is as old as the clock says that nobody sets; what a broker may have forgotten is still by the other."""
    request = proposal(limit=99).request("paper")
    name = request.client_order_id
    with Journal(tmp_path / "orders.sqlite") as journal:
        journal.commit_now([Entry(Kind.CREATED, name, request), event(name, Happening.SUBMIT_INTENDED)])

    def slow(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.B, 300.0, lag_s=0.0, retention_s=retention_s)
        broker.down = True

    async with trading(tmp_path, prepare=slow, clock=lambda: now() + timedelta(hours=1)) as rig:
        await rig.until(lambda: name in rig.desk.doubts, "it is recalled")
        age_s = monotonic() - rig.desk._core.doubts[name].sent_s
        assert (age_s > 3000) is aged
        rig.desk._core.doubts.clear()  # nothing of it is waited for at the stop


async def test_a_figure_beyond_arithmetic_that_closes_is_denied(tmp_path: Path) -> None:
    """What risk cannot reckon with is not reckoned with again to see whether it closes."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(proposal()), Status.FILLED)
        absurd = structs.replace(proposal(2, Side.SELL, quantity="9" * 40 + "E+999960"), closes=True)
        await rig.until_status(rig.desk.propose(absurd), Status.DENIED)
        await rig.until_status(rig.desk.propose(proposal(3)), Status.FILLED)


async def test_a_cancel_is_not_lost_by_overtaking_its_order(tmp_path: Path) -> None:
    """Asked for at once after the order, it is handled before it, and cancels it all the same."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal(limit=99))
        rig.desk.cancel(identifier)
        await rig.until(lambda: identifier in rig.journal.state.orders, "it is decided")
        await rig.until(lambda: rig.order(identifier).is_terminal, "it is cancelled, before it left or after")
        assert rig.status(identifier) in (Status.CANCELED, Status.NOT_PLACED)


async def test_a_cancel_that_is_refused_while_the_order_works_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that does not find an order yet refuses to cancel it: that is no answer to whoever wants it gone."""
    monkeypatch.setattr(trading_cancels, "RETRY_S", 0.02)
    async with trading(tmp_path) as rig:
        identifier = await waiting(rig)
        rig.broker.late_cancels = 1
        rig.desk.cancel(identifier)
        await rig.until_status(identifier, Status.CANCELED)
        assert rig.broker.cancels == [identifier, identifier]
