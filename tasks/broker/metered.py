"""A broker that is never asked more often than it allows: exact window, cancels first, silence while it is angry.

The window is the one of `tasks.exchange.limiter`: a slot is taken when a request is sent and freed one window after its
answer, so that whatever the network does no rolling window at the broker holds more than the limit. Entries and looks
leave a reserve alone, so that a cancel does not wait for them; a 429 closes the gate for everybody, cancels included,
since what is sent meanwhile only prolongs it (a ban follows at most exchanges).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from enum import IntEnum
from itertools import count
from typing import TypeVar

from tasks.broker.port import (
    Account,
    Broker,
    BrokerFill,
    BrokerOrder,
    NotSentError,
    Report,
    ThrottledError,
)
from tasks.errors import RateLimitedError
from tasks.exchange.limiter import Limits, SlidingWindow
from tasks.orders.order import OrderRequest

_T = TypeVar("_T")

#: How long nothing is sent after a first 429 without a time of its own, and at most after many in a row.
_PENALTY_S, _LONGEST_PENALTY_S = 5.0, 60.0
#: An entry that waited longer would meet a price that nobody decided on.
_ENTRY_PATIENCE_S = 2.0
#: Requests that may wait; more would only be answered too late.
_MOST_WAITING = 100


class Urgency(IntEnum):
    """Who goes first (the smaller number). From `ENTRY` on the reserve is left alone."""

    CANCEL = 0
    """Cancels, the kill switch's too."""
    RESOLVE = 1
    """Questions about single orders, and orders that only reduce."""
    ENTRY = 2
    """New orders."""
    LOOK = 3
    """Lists for the comparison of journal and broker."""


def order_limits(limit: int, window_s: float, *, answer_s: float = 60.0) -> Limits:
    """Return the limits of a broker: a fifth of its requests, two at least, is kept for cancels and questions.

    Args:
        limit: Requests it allows in any rolling window.
        window_s: The window's length.
        answer_s: The longest a request may take.
    """
    return Limits(limit, window_s, reserve=min(limit - 1, max(2, limit // 5)), lease_s=answer_s)


class MeteredBroker:
    """A broker behind its rate limit; see `Broker`.

    Args:
        broker: Whom to ask.
        limits: What it allows.
        clock: Monotonic clock.
    """

    def __init__(self, broker: Broker, limits: Limits, *, clock: Callable[[], float]) -> None:
        self.name, self.profile, self.is_live = broker.name, broker.profile, broker.is_live
        self.features = broker.features
        self._broker, self._limits, self._clock = broker, limits, clock
        self._window, self._tickets, self._angry = SlidingWindow(), count(), 0

    async def submit(self, request: OrderRequest, sent_at: datetime) -> BrokerOrder:
        """Place an order, or raise `NotSentError` where its turn does not come in time."""
        urgency = Urgency.RESOLVE if request.reduce_only else Urgency.ENTRY
        ticket = await self._turn(urgency, f"submit {request.client_order_id}", patience_s=_ENTRY_PATIENCE_S)
        return await self._under_way(ticket, self._broker.submit(request, sent_at))

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Cancel an order, before everything else that waits."""
        ticket = await self._turn(Urgency.CANCEL, f"cancel {client_order_id}")
        return await self._under_way(ticket, self._broker.cancel(client_order_id, symbol))

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order."""
        ticket = await self._turn(Urgency.RESOLVE, f"query {client_order_id}")
        return await self._under_way(ticket, self._broker.query(client_order_id, symbol))

    async def open_orders(self) -> list[BrokerOrder]:
        """Return every open order."""
        return await self._under_way(await self._turn(Urgency.LOOK, "open orders"), self._broker.open_orders())

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return every execution from `since` on."""
        return await self._under_way(await self._turn(Urgency.LOOK, "fills"), self._broker.fills(since))

    async def account(self) -> Account:
        """Return what the broker says we own."""
        return await self._under_way(await self._turn(Urgency.LOOK, "account"), self._broker.account())

    async def cancel_all_after(self, timeout_s: float) -> None:
        """Tell the broker that we live."""
        ticket = await self._turn(Urgency.RESOLVE, "dead man's switch")
        await self._under_way(ticket, self._broker.cancel_all_after(timeout_s))

    def reports(self) -> AsyncIterator[Report]:
        """Yield what happens; a stream costs nothing."""
        return self._broker.reports()

    async def close(self) -> None:
        """Release the broker."""
        await self._broker.close()

    async def _turn(self, urgency: Urgency, what: str, *, patience_s: float = float("inf")) -> str:
        """Wait for a slot and return its ticket.

        Raises:
            NotSentError: An order's does not come in time, or too many wait.
            RateLimitedError: Too many wait for a question to be worth it.
        """
        ticket, until = str(next(self._tickets)), self._clock() + patience_s
        if urgency is not Urgency.CANCEL and len(self._window.waiting) >= _MOST_WAITING:
            kind = NotSentError if patience_s < float("inf") else RateLimitedError
            raise kind(f"{what}: {_MOST_WAITING} requests to {self.name} wait already: not sent")
        try:
            while (wait_s := self._window.acquire(ticket, urgency, self._clock(), self._limits)) > 0.0:
                if self._clock() + wait_s > until:
                    raise NotSentError(f"{what}: no turn within {patience_s:g} s, {self.name} limits us: not sent")
                await asyncio.sleep(wait_s)
        except BaseException:
            self._window.withdraw(ticket)
            raise
        return ticket

    async def _under_way(self, ticket: str, request: Awaitable[_T]) -> _T:
        try:
            answer = await request
        except (ThrottledError, RateLimitedError) as error:
            named_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
            self._angry += 1
            grown_s = min(_PENALTY_S * 2 ** (self._angry - 1), _LONGEST_PENALTY_S)
            self._window.penalise(self._clock() + max(named_s or 0.0, grown_s))
            raise
        else:
            self._angry = 0
            return answer
        finally:
            self._window.release(ticket, self._clock())
