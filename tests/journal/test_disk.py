"""The journal's thread tells how things ended and lets nobody leave before; the log stays short without commits."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tasks.journal import disk
from tasks.journal.disk import DiskThread
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal


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


async def test_the_log_is_emptied_beside_the_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed moves from the log into the database, so that the log starts anew instead of growing."""
    monkeypatch.setattr(disk, "EMPTY_EVERY_S", 0.0)
    emptied = asyncio.Event()
    loop, empty = asyncio.get_running_loop(), disk._empty

    def noticed(database: sqlite3.Connection) -> None:
        empty(database)
        loop.call_soon_threadsafe(emptied.set)

    monkeypatch.setattr(disk, "_empty", noticed)
    with Journal(tmp_path / "orders.sqlite") as journal:
        keeping = asyncio.create_task(journal.keep_log_short())
        for _ in range(20):
            await journal.commit([Entry(Kind.ERROR, body="x" * 40_000)])
            for _ in range(2):  # the first may have begun before the commit
                emptied.clear()
                await emptied.wait()
        keeping.cancel()
        await asyncio.wait([keeping])
        log = (tmp_path / "orders.sqlite-wal").stat().st_size
    assert keeping.cancelled()
    assert log < 20 * 40_000 / 2


async def test_a_log_that_cannot_be_emptied_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that somebody else holds ends nothing: the log stays as it is until the next time."""
    monkeypatch.setattr(disk, "EMPTY_EVERY_S", 0.0)
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()

    def held(database: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(tried.set)
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(disk, "_empty", held)
    keeping = asyncio.create_task(disk.keep_log_short(sqlite3.connect(tmp_path / "held", check_same_thread=False)))
    for _ in range(3):
        tried.clear()
        await tried.wait()
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
