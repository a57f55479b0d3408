"""A broker is never asked more often than it allows: exact window, cancels first, silence while it is angry.

The window is the one of `tasks.exchange.limiter`: a slot is taken when a request is sent and freed one window after its
answer, so that whatever the network does no rolling window at the broker holds more than the limit. Entries and looks
leave a reserve alone, so that a cancel does not wait for them; a 429 closes the gate for everybody, cancels included,
since what is sent meanwhile only prolongs it (a ban follows at most exchanges).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count

from tasks.broker.port import NotSentError, ThrottledError
from tasks.errors import RateLimitedError
from tasks.exchange.limiter import Limits, SlidingWindow

#: How long nothing is sent after a first 429 without a time of its own, and at most after many in a row.
_PENALTY_S, _LONGEST_PENALTY_S = 5.0, 60.0
#: An entry that waited longer would meet a price that nobody decided on.
ENTRY_PATIENCE_S = 2.0
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
    """Lists: for the comparison of journal and broker, and for reports where the broker pushes none."""


def order_limits(limit: int, window_s: float, *, answer_s: float = 60.0) -> Limits:
    """Return the limits of a broker: a fifth of its requests, two at least, is kept for cancels and questions.

    Args:
        limit: Requests it allows in any rolling window.
        window_s: The window's length.
        answer_s: The longest a request may take.
    """
    return Limits(limit, window_s, reserve=min(limit - 1, max(2, limit // 5)), lease_s=answer_s)


class Gate:
    """A broker's rate limit; a slot of it is taken for each request, whoever needs it.

    Args:
        name: The broker's, for messages.
        limits: What it allows.
        clock: Monotonic clock.
    """

    def __init__(self, name: str, limits: Limits, *, clock: Callable[[], float]) -> None:
        self._name, self._limits, self._clock = name, limits, clock
        self._window, self._tickets, self._angry = SlidingWindow(), count(), 0

    @asynccontextmanager
    async def slot(self, urgency: Urgency, what: str, *, patience_s: float = float("inf")) -> AsyncIterator[None]:
        """Wait for a slot and hold it for one request; one that is answered with a 429 closes the gate for a while.

        Raises:
            NotSentError: An order's turn does not come in time, or too many wait.
            RateLimitedError: Too many wait for a question to be worth it.
        """
        ticket = await self._turn(urgency, what, patience_s=patience_s)
        try:
            yield
        except (ThrottledError, RateLimitedError) as error:
            named_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
            self._angry += 1
            grown_s = min(_PENALTY_S * 2 ** (self._angry - 1), _LONGEST_PENALTY_S)
            self._window.penalise(self._clock() + max(named_s or 0.0, grown_s))
            raise
        else:
            self._angry = 0
        finally:
            self._window.release(ticket, self._clock())

    def pace_s(self, requests: int, share: float) -> float:
        """Return how far apart turns of so many requests have to begin to take no more than a share of the limit."""
        return requests * self._limits.window_s / (self._limits.limit * share)

    async def _turn(self, urgency: Urgency, what: str, *, patience_s: float) -> str:
        ticket, until = str(next(self._tickets)), self._clock() + patience_s
        if urgency is not Urgency.CANCEL and len(self._window.waiting) >= _MOST_WAITING:
            kind = NotSentError if patience_s < float("inf") else RateLimitedError
            raise kind(f"{what}: {_MOST_WAITING} requests to {self._name} wait already: not sent")
        try:
            while (wait_s := self._window.acquire(ticket, urgency, self._clock(), self._limits)) > 0.0:
                if self._clock() + wait_s > until:
                    raise NotSentError(f"{what}: no turn within {patience_s:g} s, {self._name} limits us: not sent")
                await asyncio.sleep(wait_s)
        except BaseException:
            self._window.withdraw(ticket)
            raise
        return ticket
