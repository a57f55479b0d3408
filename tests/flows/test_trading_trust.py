"""What must not be sent although it was decided, and what is not believed although it was said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tasks.broker.port import BrokerOrder, Recorded, on_disk
from tasks.orders.account import TradingState
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import OrderRequest, Pending, Status
from tests.flows.trading_rig import SYMBOL, FaultyBroker, proposal, trading, waiting


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
