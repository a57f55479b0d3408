"""Waiting for the disk beside the event loop: one thread for the commits.

An executor would do, but takes three turns of the loop to say that something is done; with ticks in each of them that
is a millisecond of an order's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


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
