"""Sending one request until it is answered: in its turn, a few at a time, retried within bounds. For every vendor."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from tasks.errors import RateLimitedError, TransientError
from tasks.exchange.limiter import Priority
from tasks.exchange.retry import RetryPolicy, jittered
from tasks.exchange.throttle import Throttle

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: Wait after a 429 that names no usable Retry-After.
DEFAULT_PENALTY_S = 5.0


class Sender:
    """Everything between the wish for an answer and the network.

    Args:
        throttle: The rate budget.
        retry: Bounds of the retries.
        concurrency: Requests in flight at most.
        priority: The class of these requests.
        seed: Seed of the jitter; None outside tests.

    Attributes:
        requests: Requests sent so far, retries included.
    """

    def __init__(
        self, throttle: Throttle, retry: RetryPolicy, *, concurrency: int, priority: Priority, seed: int | None = None
    ) -> None:
        self._throttle, self._retry, self._priority = throttle, retry, priority
        self._in_flight = asyncio.Semaphore(concurrency)
        self._rng = random.Random(seed)  # noqa: S311 - jitter, not a secret
        self.requests = 0

    async def send(self, attempt: Callable[[], Awaitable[T]], what: str) -> T:
        """Return what `attempt` returns, called again after transient errors.

        After a rate limit the gate is closed for everyone who shares the budget, and the next attempt waits there;
        after other transient errors this request alone waits, with full jitter.

        Args:
            attempt: Sends the request once and reads the answer.
            what: The request, for the log.

        Raises:
            TransientError: The last of the attempts failed too, or they would wait too long together.
            KlinehouseError: What time does not cure, at once.
        """
        slept_s = 0.0
        for number in range(1, self._retry.attempts):
            try:
                return await self._once(attempt)
            except RateLimitedError as error:
                log.debug("request.limited", request=what, attempt=number, retry_after_s=error.retry_after_s)
            except TransientError as error:
                wait_s = self._retry.backoff_s(number, self._rng)
                slept_s += wait_s
                if slept_s > self._retry.total_s:
                    raise
                log.debug("request.failed", request=what, attempt=number, wait_s=wait_s, error=str(error))
                await asyncio.sleep(wait_s)
        return await self._once(attempt)

    async def _once(self, attempt: Callable[[], Awaitable[T]]) -> T:
        async with self._in_flight, self._throttle.slot(self._priority):
            self.requests += 1
            try:
                return await attempt()
            except RateLimitedError as error:
                self._throttle.penalise(jittered(error.retry_after_s or DEFAULT_PENALTY_S, self._rng))
                raise
