"""Waiting for the rate limit: the asynchronous side of `limiter`, in one process."""

from __future__ import annotations

import asyncio
import heapq
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Protocol

from tasks.exchange.limiter import Clock, Limits, Priority, SlidingWindow

Sleep = Callable[[float], Awaitable[None]]

#: A waiter looks again at least this often: another process may have opened or closed the gate meanwhile.
LONGEST_SLEEP_S = 1.0


class Budget(Protocol):
    """Where the log of requests is kept: in this process, or in a file that processes share."""

    def acquire(self, ticket: str, priority: Priority) -> float:
        """Take a slot (0.0) or say how long to wait."""
        ...

    def release(self, ticket: str) -> None:
        """Give the slot back to the window."""
        ...

    def withdraw(self, ticket: str) -> None:
        """Leave the line."""
        ...

    def penalise(self, delay_s: float) -> None:
        """Close the gate for so long from now."""
        ...


class PrivateBudget:
    """A budget that only this process uses."""

    def __init__(self, limits: Limits, *, clock: Clock = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._log = SlidingWindow()

    def acquire(self, ticket: str, priority: Priority) -> float:
        """Take a slot (0.0) or say how long to wait."""
        return self._log.acquire(ticket, priority, self._clock(), self._limits)

    def release(self, ticket: str) -> None:
        """Give the slot back to the window."""
        self._log.release(ticket, self._clock())

    def withdraw(self, ticket: str) -> None:
        """Leave the line."""
        self._log.withdraw(ticket)

    def penalise(self, delay_s: float) -> None:
        """Close the gate for so long from now."""
        self._log.penalise(self._clock() + delay_s)


class Throttle:
    """Lets requests through as the budget allows, the highest class first, first come first served within a class.

    Only the head of the line asks the budget; everyone else waits for the head to leave. A newcomer of a higher class
    becomes the head at once.
    """

    def __init__(self, budget: Budget, *, sleep: Sleep = asyncio.sleep) -> None:
        self._budget = budget
        self._sleep = sleep
        self._line: list[tuple[int, int, str]] = []
        self._numbers = count()
        self._moved = asyncio.Condition()

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncIterator[None]:
        """Hold a slot for the length of one request; cancelling while waiting leaves the line."""
        ticket = await self._acquire(priority)
        try:
            yield
        finally:
            self._budget.release(ticket)

    def penalise(self, delay_s: float) -> None:
        """Make everyone who uses the budget wait for `delay_s` from now."""
        self._budget.penalise(delay_s)

    async def _acquire(self, priority: Priority) -> str:
        number = next(self._numbers)
        ticket = f"{os.getpid()}-{id(self):x}-{number}"
        place = (int(priority), number, ticket)
        heapq.heappush(self._line, place)
        try:
            while True:
                await self._until_head(place)
                wait_s = self._budget.acquire(ticket, priority)
                if wait_s <= 0.0:
                    return ticket
                await self._sleep(min(wait_s, LONGEST_SLEEP_S))
        except BaseException:
            self._budget.withdraw(ticket)
            raise
        finally:
            await self._leave(place)

    async def _until_head(self, place: tuple[int, int, str]) -> None:
        if self._line[0] != place:  # mostly there is no line, and a condition costs as much as the budget
            async with self._moved:
                await self._moved.wait_for(lambda: self._line[0] == place)

    async def _leave(self, place: tuple[int, int, str]) -> None:
        self._line.remove(place)
        heapq.heapify(self._line)
        if self._line:
            async with self._moved:
                self._moved.notify_all()
