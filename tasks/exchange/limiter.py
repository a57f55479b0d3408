"""The rate limit as a value: an exact sliding window with priorities and a penalty gate. Pure, the clock passed in.

Why a log of every request and no token bucket: a bucket of `limit` tokens lets up to twice the limit through any one
window (burst, then refill), and a vendor that counts a rolling minute answers 429.

**What makes it exact.** The vendor counts a request when it arrives, which we cannot see; it lies between sending and
answer. A slot is therefore taken when a request is sent and freed one window after its answer came. Whatever the
network does to single requests, no rolling window at the vendor can hold more than `limit` arrivals. The price is one
round trip a window: 0.1 % at 60 ms and one minute.

A slot whose owner died is freed by time alone: its lease ends `lease_s` after sending, then the window runs.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

Clock = Callable[[], float]


class Priority(IntEnum):
    """Who goes first when requests are scarce (the smaller number)."""

    RESYNC = 0
    """A live stream fills a gap it just found."""
    INTERACTIVE = 1
    """Somebody waits at a screen."""
    BACKFILL = 2
    """History; may take hours, and leaves the reserve alone."""


class Limits(msgspec.Struct, frozen=True):
    """What the vendor allows.

    Attributes:
        limit: Requests in any rolling window.
        window_s: The window's length.
        reserve: Slots that BACKFILL leaves free, so that a live resync never waits for a whole window.
        lease_s: The longest a request may take; ends the lease of a dead process.
    """

    limit: int
    window_s: float = 60.0
    reserve: int = 0
    lease_s: float = 60.0


def per_minute(requests: int, *, lease_s: float = 60.0) -> Limits:
    """Return the limits of a plan: one request in a hundred is kept for live use where the plan has that many."""
    return Limits(requests, reserve=requests // 100, lease_s=lease_s)


class SlidingWindow(msgspec.Struct):
    """The log of one key's requests. Times are seconds of one monotonic clock shared by all users of the log.

    Attributes:
        done: Answer times of finished requests that still count, oldest first.
        leases: Requests in flight: ticket to the time its lease ends.
        gate: No request of any class before this time.
        waiting: Who was refused and will come back: ticket to (priority, time until which the claim holds).
    """

    done: list[float] = []
    leases: dict[str, float] = {}
    gate: float = 0.0
    waiting: dict[str, tuple[int, float]] = {}

    def acquire(self, ticket: str, priority: int, now: float, limits: Limits) -> float:
        """Take a slot for `ticket` and return 0.0, or return the seconds after which asking again may succeed."""
        self._expire(now, limits)
        wait_s = self._wait_s(ticket, priority, now, limits)
        if wait_s > 0.0:
            self.waiting[ticket] = (int(priority), now + wait_s + CLAIM_GRACE_S)
            return wait_s
        self.waiting.pop(ticket, None)
        self.leases[ticket] = now + limits.lease_s
        return 0.0

    def release(self, ticket: str, now: float) -> None:
        """Record that the answer of `ticket` came (or that its request ended otherwise); the window starts to run."""
        if self.leases.pop(ticket, None) is not None:
            self.done.append(now)

    def withdraw(self, ticket: str) -> None:
        """Forget a waiter that gave up."""
        self.waiting.pop(ticket, None)

    def penalise(self, until: float) -> None:
        """Let nobody send before `until`; a later gate stays."""
        self.gate = max(self.gate, until)

    def used(self, now: float, limits: Limits) -> int:
        """Return how many slots of the window are taken at `now`."""
        self._expire(now, limits)
        return len(self.done) + len(self.leases)

    def _wait_s(self, ticket: str, priority: int, now: float, limits: Limits) -> float:
        if now < self.gate:
            return self.gate - now
        room = limits.limit - (limits.reserve if priority >= Priority.BACKFILL else 0)
        free = room - len(self.done) - len(self.leases)
        if free <= 0:
            return self._next_free_s(now, limits, 1 - free)
        ahead = sum(1 for other, (rank, _) in self.waiting.items() if rank < priority and other != ticket)
        return YIELD_S if free <= ahead else 0.0

    def _next_free_s(self, now: float, limits: Limits, needed: int) -> float:
        """Return when `needed` slots can be free at the earliest; slots in flight cannot be before a full window."""
        if needed > len(self.done):
            return limits.window_s
        return max(self.done[needed - 1] + limits.window_s - now, SHORTEST_WAIT_S)

    def _expire(self, now: float, limits: Limits) -> None:
        self._distrust_the_future(now, limits)
        for ticket, ends in list(self.leases.items()):
            if ends <= now:
                self.release(ticket, ends)
        self.done.sort()
        first = next((i for i, moment in enumerate(self.done) if moment + limits.window_s > now), len(self.done))
        del self.done[:first]
        self.waiting = {ticket: claim for ticket, claim in self.waiting.items() if claim[1] > now}

    def _distrust_the_future(self, now: float, limits: Limits) -> None:
        """Clamp times the clock has not reached (it restarts with the machine): old logs block one window at most."""
        if self.done and self.done[-1] > now:
            self.done = [min(moment, now) for moment in self.done]
        self.leases = {ticket: min(ends, now + limits.lease_s) for ticket, ends in self.leases.items()}
        self.gate = min(self.gate, now + LONGEST_GATE_S)


#: A waiter's claim outlives its own wake-up by this much, so that it is still in line when it comes back.
CLAIM_GRACE_S = 0.25
#: How long a lower class stands back for a higher one that is about to take the free slot.
YIELD_S = 0.02
#: Never return 0 for "wait": 0 means granted.
SHORTEST_WAIT_S = 1e-4
#: The longest a penalty may last (`retry.MAX_RETRY_AFTER_S` and its jitter).
LONGEST_GATE_S = 4_000.0
