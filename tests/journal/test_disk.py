"""The journal's thread tells how things ended and lets nobody leave before."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from tasks.journal.disk import DiskThread


async def test_what_fails_in_the_thread_is_told_and_the_next_thing_is_done() -> None:
    """An error reaches whoever waits; the thread lives on."""
    thread, done = DiskThread(), []

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        await thread.do(fail)
    await thread.do(lambda: done.append(threading.current_thread().name))
    thread.close()
    assert done == ["journal"]


async def test_whoever_is_cancelled_leaves_only_when_it_is_done() -> None:
    """Two cancellations do not end the wait for what nothing can stop."""
    thread, go, seen = DiskThread(), threading.Event(), []

    async def wait() -> None:
        try:
            await thread.do(lambda: seen.append(go.wait(10)))
        finally:
            seen.append("left")

    leaver = asyncio.create_task(wait())
    await asyncio.sleep(0)
    leaver.cancel()
    leaver.cancel()
    asyncio.get_running_loop().call_later(0.01, go.set)
    with pytest.raises(asyncio.CancelledError):
        await leaver
    thread.close()
    assert seen == [True, "left"]
