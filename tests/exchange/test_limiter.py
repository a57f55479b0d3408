"""The exact sliding window, on a clock that the test turns."""

from __future__ import annotations

import random
from bisect import bisect_right

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.exchange.limiter import Limits, Priority, SlidingWindow, per_minute


def drive(seed: int, limits: Limits, seconds: float) -> list[float]:
    """Send as fast as the window allows over a network of random delays; return when the vendor saw each request."""
    rng, window, now, number = random.Random(seed), SlidingWindow(), 0.0, 0
    arrivals: list[float] = []
    flying: list[tuple[float, str]] = []
    while now < seconds:
        for ended, ticket in [one for one in flying if one[0] <= now]:
            window.release(ticket, ended)
            flying.remove((ended, ticket))
        number += 1
        wait_s = window.acquire(str(number), Priority.RESYNC, now, limits)
        if wait_s == 0.0:
            there, back = rng.expovariate(50), rng.expovariate(50)
            arrivals.append(now + there)
            flying.append((now + there + back, str(number)))
        else:
            window.withdraw(str(number))
            now = min([now + wait_s, *(ended for ended, _ in flying)])
    return sorted(arrivals)


def busiest(arrivals: list[float], window_s: float) -> int:
    """Return the most arrivals in any rolling window."""
    return max(bisect_right(arrivals, moment + window_s - 1e-9) - i for i, moment in enumerate(arrivals))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0.5, 60.0))
def test_no_rolling_window_at_the_vendor_holds_too_many(seed: int, limit: int, window_s: float) -> None:
    """Whatever the network does to single requests, the vendor never counts more than the limit."""
    arrivals = drive(seed, Limits(limit, window_s), seconds=5 * window_s)
    assert busiest(arrivals, window_s) <= limit


def test_nearly_every_allowed_request_is_used() -> None:
    """Exactness costs one round trip a window: at 40 ms and 20 s more than 99 % of the allowed requests are sent."""
    arrivals = drive(1, Limits(50, 20.0), seconds=400.0)
    assert len(arrivals) >= 0.99 * 50 * 400 / 20


def test_a_full_window_names_the_moment_it_frees() -> None:
    """A slot is free one window after its answer, not after its sending; the wait says exactly when."""
    window, limits = SlidingWindow(), Limits(1, 10.0)
    assert window.acquire("a", Priority.BACKFILL, 0.0, limits) == 0.0
    assert window.acquire("b", Priority.BACKFILL, 1.0, limits) == 10.0
    window.release("a", 2.0)
    assert window.acquire("b", Priority.BACKFILL, 4.0, limits) == 8.0
    assert window.acquire("b", Priority.BACKFILL, 12.0, limits) == 0.0


def test_a_closed_gate_stops_every_class() -> None:
    """After a 429 nobody sends before the gate opens, and an earlier gate never shortens a later one."""
    window, limits = SlidingWindow(), Limits(10)
    window.penalise(30.0)
    window.penalise(20.0)
    assert [window.acquire(f"{p}", p, 1.0, limits) for p in Priority] == [29.0] * 3
    assert window.acquire("late", Priority.BACKFILL, 30.5, Limits(100)) == 0.0


def test_backfill_leaves_the_reserve_to_live_requests() -> None:
    """History may not take the last slots: a resync finds one at once."""
    window, limits = SlidingWindow(), Limits(10, reserve=2)
    granted = [window.acquire(str(i), Priority.BACKFILL, 0.0, limits) == 0.0 for i in range(10)]
    assert granted == [True] * 8 + [False] * 2
    assert [window.acquire(f"live{i}", Priority.RESYNC, 0.0, limits) == 0.0 for i in range(3)] == [True, True, False]


def test_a_lower_class_stands_back_for_a_waiting_higher_one() -> None:
    """The slot that frees goes to the resync that waits for it, though the backfill asks first."""
    window, limits = SlidingWindow(), Limits(1, 10.0)
    window.acquire("a", Priority.BACKFILL, 0.0, limits)
    window.release("a", 0.0)
    assert window.acquire("live", Priority.RESYNC, 1.0, limits) > 0.0
    assert window.acquire("history", Priority.BACKFILL, 10.0, limits) > 0.0
    assert window.acquire("live", Priority.RESYNC, 10.0, limits) == 0.0


def test_a_dead_waiter_blocks_nobody_for_long() -> None:
    """A claim lapses shortly after its owner should have come back."""
    window, limits = SlidingWindow(), Limits(1, 10.0)
    window.acquire("a", Priority.BACKFILL, 0.0, limits)
    window.release("a", 0.0)
    window.acquire("dead", Priority.RESYNC, 1.0, limits)
    assert window.acquire("history", Priority.BACKFILL, 10.5, limits) == 0.0


def test_a_dead_owner_does_not_keep_its_slot() -> None:
    """A request whose process died counts until its lease ends and one window more, then never again."""
    window, limits = SlidingWindow(), Limits(1, 10.0, lease_s=5.0)
    window.acquire("dead", Priority.BACKFILL, 0.0, limits)
    assert window.acquire("next", Priority.BACKFILL, 14.9, limits) == pytest.approx(0.1)
    assert window.acquire("next", Priority.BACKFILL, 15.0, limits) == 0.0


def test_a_restarted_clock_blocks_one_window_at_most() -> None:
    """A log written before the machine restarted holds times the clock has not reached; they age from now on."""
    window, limits = SlidingWindow(done=[1e6, 1e6 + 1], leases={"old": 2e6}, gate=1e9), Limits(3, 10.0, lease_s=5.0)
    window.penalise(0.0)
    assert window.used(0.0, limits) == 3
    assert window.gate <= 4_000.0
    window.gate = 0.0
    assert window.acquire("new", Priority.BACKFILL, 15.0, limits) == 0.0


def test_the_log_survives_being_written_down() -> None:
    """The state is plain data: what is read back decides the same."""
    window, limits = SlidingWindow(), Limits(2, 10.0)
    for ticket in ("a", "b"):
        window.acquire(ticket, Priority.BACKFILL, 0.0, limits)
    window.release("a", 1.0)
    window.acquire("c", Priority.RESYNC, 2.0, limits)
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=SlidingWindow)
    assert copy == window
    assert copy.acquire("c", Priority.RESYNC, 3.0, limits) == window.acquire("c", Priority.RESYNC, 3.0, limits)


def test_a_plan_keeps_one_request_in_a_hundred_for_live_use() -> None:
    """A backfill may use 99 % of a plan; a plan too small for a reserve has none."""
    assert (per_minute(1_800).reserve, per_minute(60).reserve) == (18, 0)
