"""Waiting in line for the rate limit, on a clock that the test turns."""

from __future__ import annotations

import asyncio

import pytest

from tasks.exchange.limiter import Limits, Priority
from tasks.exchange.throttle import PrivateBudget, Throttle


class TurnedClock:
    """A clock that moves only when somebody sleeps, and lets everyone else run first."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the others run, then move on."""
        for _ in range(20):
            await asyncio.sleep(0)
        self.now += seconds


def throttle(limits: Limits) -> tuple[Throttle, TurnedClock]:
    """Return a throttle on a clock of its own."""
    clock = TurnedClock()
    return Throttle(PrivateBudget(limits, clock=clock), sleep=clock.sleep), clock


async def send(line: Throttle, clock: TurnedClock, sent: list[tuple[str, float]], name: str, rank: Priority) -> None:
    """Take a slot, note when, give it back."""
    async with line.slot(rank):
        sent.append((name, clock.now))


async def test_everyone_is_served_in_order_and_in_time() -> None:
    """Ten requests through a window of four: four at once, then four a window, first come first served."""
    line, clock = throttle(Limits(4, 10.0))
    sent: list[tuple[str, float]] = []
    await asyncio.gather(*(send(line, clock, sent, str(i), Priority.BACKFILL) for i in range(10)))
    assert [name for name, _ in sent] == [str(i) for i in range(10)]
    assert [round(at, 1) for _, at in sent] == [0.0] * 4 + [10.0] * 4 + [20.0] * 2


async def test_a_live_request_overtakes_the_waiting_backfill() -> None:
    """A resync that comes last goes first when the next slot frees."""
    line, clock = throttle(Limits(1, 10.0))
    sent: list[tuple[str, float]] = []
    jobs = [send(line, clock, sent, f"history{i}", Priority.BACKFILL) for i in range(3)]
    await asyncio.gather(*jobs, send(line, clock, sent, "live", Priority.RESYNC))
    assert [name for name, _ in sent] == ["history0", "live", "history1", "history2"]


async def test_a_penalty_stops_all_waiters() -> None:
    """After a penalty nobody is let through before its end, however many wait."""
    line, clock = throttle(Limits(1_000, 10.0))
    line.penalise(30.0)
    sent: list[tuple[str, float]] = []
    await asyncio.gather(*(send(line, clock, sent, str(i), Priority.RESYNC) for i in range(200)))
    assert min(at for _, at in sent) >= 30.0
    assert len(sent) == 200


async def test_a_cancelled_waiter_leaves_the_line() -> None:
    """Cancelling a waiter frees its place: the next one is served, the slot is not lost."""
    line, clock = throttle(Limits(1, 10.0))
    sent: list[tuple[str, float]] = []
    async with line.slot(Priority.BACKFILL):
        waiting = asyncio.create_task(send(line, clock, sent, "cancelled", Priority.RESYNC))
        after = asyncio.create_task(send(line, clock, sent, "after", Priority.BACKFILL))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await after
    assert [name for name, _ in sent] == ["after"]


async def test_a_failed_request_gives_its_slot_back() -> None:
    """A request that raises still counts one window, not for ever."""
    line, clock = throttle(Limits(1, 10.0))
    with pytest.raises(ValueError, match="broken"):
        async with line.slot(Priority.BACKFILL):
            raise ValueError("broken")
    sent: list[tuple[str, float]] = []
    await send(line, clock, sent, "next", Priority.BACKFILL)
    assert sent == [("next", 10.0)]
