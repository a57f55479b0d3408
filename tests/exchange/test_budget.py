"""One key's rate, shared by processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.exchange.budget import SharedBudget, default_folder, scope_of
from tasks.exchange.limiter import Limits, Priority

LIMITS = Limits(20, window_s=0.5)
#: Long enough that a slow machine sees the killed process's slots still taken.
HELD = Limits(20)
SPAWN = multiprocessing.get_context("spawn")


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now


def take(folder: str, seconds: float, granted: list[float]) -> None:
    """Take slots as fast as the budget allows, and note when the vendor would have seen each request."""
    budget, until, number = SharedBudget(Path(folder), "key", LIMITS), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1
        ticket = f"{os.getpid()}-{number}"
        wait_s = budget.acquire(ticket, Priority.BACKFILL)
        if wait_s == 0.0:
            granted.append(time.monotonic())
            budget.release(ticket)
        else:
            time.sleep(min(wait_s, 0.05))


def take_and_die(folder: str) -> None:
    """Take every slot and be killed with them in hand."""
    budget = SharedBudget(Path(folder), "key", HELD)
    for number in range(HELD.limit):
        assert budget.acquire(f"dead-{number}", Priority.BACKFILL) == 0.0
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_together_stay_within_the_limit(tmp_path: Path) -> None:
    """Two processes that take what they can stay within every rolling window, and fill it."""
    with SPAWN.Manager() as manager:
        granted = manager.list()
        workers = [SPAWN.Process(target=take, args=(str(tmp_path), 1.5, granted)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        times = sorted(granted)
    busiest = max(sum(1 for at in times if first <= at < first + LIMITS.window_s) for first in times)
    assert busiest <= LIMITS.limit
    assert len(times) >= 2 * LIMITS.limit


def test_a_killed_process_does_not_keep_its_slots(tmp_path: Path) -> None:
    """Slots held by a process that was killed are free after its leases and one window, and the file still works."""
    worker = SPAWN.Process(target=take_and_die, args=(str(tmp_path),))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    clock = Clock()
    clock.now = time.monotonic()
    budget = SharedBudget(tmp_path, "key", HELD, clock=clock)
    assert budget.used() == HELD.limit
    clock.now += HELD.lease_s + HELD.window_s
    assert budget.acquire("later", Priority.BACKFILL) == 0.0


def test_a_penalty_holds_for_every_process(tmp_path: Path) -> None:
    """One user's 429 closes the gate for all users of the key, and for no other key."""
    clock = Clock()
    one, other = (SharedBudget(tmp_path, "key", Limits(10), clock=clock) for _ in range(2))
    one.penalise(100.0)
    clock.now = 40.0
    assert other.acquire("x", Priority.RESYNC) == 60.0
    assert SharedBudget(tmp_path, "another key", Limits(10), clock=clock).acquire("x", Priority.RESYNC) == 0.0


def test_a_live_request_of_another_process_goes_first(tmp_path: Path) -> None:
    """Priorities hold across users: the freed slot goes to the resync that waits for it elsewhere."""
    clock = Clock()
    history, live = (SharedBudget(tmp_path, "key", Limits(1, 10.0), clock=clock) for _ in range(2))
    history.acquire("a", Priority.BACKFILL)
    history.release("a")
    assert live.acquire("live", Priority.RESYNC) > 0.0
    clock.now = 10.0
    assert history.acquire("b", Priority.BACKFILL) > 0.0
    assert live.acquire("live", Priority.RESYNC) == 0.0


def test_a_waiter_that_gives_up_makes_way(tmp_path: Path) -> None:
    """A withdrawn claim blocks nobody."""
    clock = Clock()
    budget = SharedBudget(tmp_path, "key", Limits(1, 10.0), clock=clock)
    budget.acquire("a", Priority.BACKFILL)
    budget.release("a")
    budget.acquire("live", Priority.RESYNC)
    budget.withdraw("live")
    clock.now = 10.0
    assert budget.acquire("b", Priority.BACKFILL) == 0.0
    budget.close()


def test_a_failed_decision_changes_nothing(tmp_path: Path) -> None:
    """An error inside the transaction is rolled back, and the lock is let go."""
    budget = SharedBudget(tmp_path, "key", Limits(1))
    with pytest.raises(TypeError):
        budget.penalise("soon")  # type: ignore[arg-type]
    assert budget.acquire("a", Priority.BACKFILL) == 0.0


def test_the_key_cannot_be_read_from_the_folder(tmp_path: Path) -> None:
    """The file is named by a hash of address and key, differs with either, and lies in a folder of the user's own."""
    key = SecretStr("canary-7f3a-key")
    scope = scope_of("http://x", key)
    SharedBudget(tmp_path / "new", scope, Limits(1)).acquire("a", Priority.BACKFILL)
    assert not any(b"canary" in path.read_bytes() or "canary" in path.name for path in (tmp_path / "new").iterdir())
    assert scope != scope_of("http://y", key)
    assert scope != scope_of("http://x", SecretStr("other"))
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert default_folder().name.startswith("klinehouse-budget-")
