"""What must not be sent although it was decided, and what is not believed although it was said."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

from tasks.broker.port import BrokerOrder, Recorded, on_disk
from tasks.orders.account import TradingState
from tasks.orders.order import OrderRequest, Pending, Status
from tests.flows.trading_rig import proposal, trading


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
