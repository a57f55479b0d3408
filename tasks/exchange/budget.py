"""The rate budget that every process using a key shares: the pure log of `limiter`, kept in a small SQLite file.

A decision is one transaction: lock, read the log, decide, write it back. A process that dies lets go of its lock, and
SQLite undoes what it had half written. Nothing is synced to disk: a power cut may lose the log, and with it the
knowledge of one minute. Times are `time.monotonic`, which all processes of a machine share; a log from before a restart
ages within one window. Two machines that use one key need half of its rate each: nothing here crosses a network.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from pydantic import SecretStr

from tasks.exchange.limiter import Clock, Limits, Priority, SlidingWindow

#: The lock is held for microseconds; whoever waits longer than this waits for a stopped process.
_LOCK_TIMEOUT_S = 30.0


def default_folder() -> Path:
    """Return the folder in which this user's processes meet when no other is configured."""
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"klinehouse-budget-{owner}"


def scope_of(base_url: str, api_key: SecretStr) -> str:
    """Return the name under which users of one key at one vendor meet: a hash, from which no key can be read."""
    return hashlib.sha256(f"{base_url}\n{api_key.get_secret_value()}".encode()).hexdigest()[:24]


class SharedBudget:
    """A budget that lives in a file; every process that opens the same scope in the same folder shares it.

    Args:
        folder: Where the file lies; created, for this user only.
        scope: Who shares (`scope_of`).
        limits: What the vendor allows; every user of a scope should say the same.
        clock: Seconds of a monotonic clock that all users share.
    """

    def __init__(self, folder: Path, scope: str, limits: Limits, *, clock: Clock = time.monotonic) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._limits = limits
        self._clock = clock  # read under the lock, so that the log never meets a time older than its last
        self._store = sqlite3.connect(folder / f"{scope}.sqlite", timeout=_LOCK_TIMEOUT_S, isolation_level=None)
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = OFF")
        self._store.execute("CREATE TABLE IF NOT EXISTS budget (id INTEGER PRIMARY KEY, log BLOB NOT NULL)")

    def acquire(self, ticket: str, priority: Priority) -> float:
        """Take a slot (0.0) or say how long to wait."""
        with self._log() as log:
            return log.acquire(ticket, priority, self._clock(), self._limits)

    def release(self, ticket: str) -> None:
        """Give the slot back to the window."""
        with self._log() as log:
            log.release(ticket, self._clock())

    def withdraw(self, ticket: str) -> None:
        """Leave the line."""
        with self._log() as log:
            log.withdraw(ticket)

    def penalise(self, delay_s: float) -> None:
        """Close the gate for everybody for so long from now."""
        with self._log() as log:
            log.penalise(self._clock() + delay_s)

    def used(self) -> int:
        """Return how many slots of the window are taken."""
        with self._log() as log:
            return log.used(self._clock(), self._limits)

    def close(self) -> None:
        """Close the file; the log stays for the others."""
        self._store.close()

    @contextmanager
    def _log(self) -> Iterator[SlidingWindow]:
        self._store.execute("BEGIN IMMEDIATE")
        try:
            row = self._store.execute("SELECT log FROM budget WHERE id = 1").fetchone()
            log = _DECODER.decode(row[0]) if row else SlidingWindow()
            yield log
            self._store.execute("REPLACE INTO budget VALUES (1, ?)", (msgspec.msgpack.encode(log),))
        except BaseException:
            self._store.execute("ROLLBACK")
            raise
        self._store.execute("COMMIT")


_DECODER = msgspec.msgpack.Decoder(SlidingWindow)
