"""Waiting for the disk beside the event loop: one thread for the commits, and the log emptied where no order waits.

An executor would do, but takes three turns of the loop to say that something is done; with ticks in each of them that
is a millisecond of an order's way.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn

import structlog

log = structlog.get_logger(__name__)

#: SQLite empties the log by itself inside the commit that brings it to a thousand pages; a busy desk writes half of
#: that in a second.
EMPTY_EVERY_S = 1.0


class Done(asyncio.Future[None]):
    """The end of something in the thread. Nothing stops that: whoever waits for it and is cancelled leaves after it."""

    def cancel(self, msg: Any = None) -> bool:
        """Refuse."""
        return False

    def settle(self, error: BaseException | None) -> None:
        """Say how it ended."""
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)


class DiskThread:
    """Does one thing after the other."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Callable[[], None], Done] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="journal", daemon=True)

    def do(self, work: Callable[[], None]) -> Done:
        """Have something done, and return what tells when it is."""
        if not self._thread.is_alive():
            self._thread.start()
        done = Done()
        self._waiting.put((work, done))
        return done

    def close(self) -> None:
        """Return once everything is done; nothing can follow."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (one := self._waiting.get()) is not None:
            work, done = one
            error = None
            try:
                work()
            except BaseException as found:  # noqa: BLE001  (told to whoever waits)
                error = found
            done.get_loop().call_soon_threadsafe(done.settle, error)


async def keep_log_short(database: sqlite3.Connection) -> NoReturn:
    """Move what the write-ahead log holds into the database, for ever, on a connection of its own; then close that.

    No commit waits for it. One that another connection holds up is left to the next time, and to SQLite itself.
    """
    thread = DiskThread()
    try:
        while True:
            await asyncio.sleep(EMPTY_EVERY_S)
            try:
                await thread.do(lambda: _empty(database))
            except sqlite3.Error as error:  # the log only stays longer; what ails the disk, the next commit finds
                log.warning("journal.log_kept", error=f"{type(error).__name__}: {error}")
    finally:
        thread.close()
        database.close()


def _empty(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
