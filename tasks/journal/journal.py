"""The journal on disk: SQLite in WAL mode with `synchronous=FULL`, one writer, every commit durable when it returns.

A commit is one transaction: the lines, and the rows of orders, fills and positions that follow from them. State in
memory changes only after it. A commit that fails leaves both as they were and ends trading: after a failed fsync the
only honest way on is to start again from the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from msgspec import Struct
from msgspec.structs import astuple

from tasks.errors import ConfigurationError, DataError
from tasks.journal.disk import DiskThread
from tasks.journal.entries import FIRST_HASH, Entry, Kind, Line, chain, encode
from tasks.journal.reading import COLUMNS, SCHEMA_VERSION, read_head, read_last, read_lines, recover
from tasks.journal.state import Change, Draft, State

_INSERT_LINE = f"INSERT INTO journal ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  (constants)
_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

#: Opens a database for the journal; in autocommit, and for use by one thread after the other.
Connect = Callable[[Path], sqlite3.Connection]


def connect(path: Path) -> sqlite3.Connection:
    """Open a database on this machine's disk."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)


class _Begun(Struct, frozen=True):
    """A transaction that is not yet durable."""

    draft: Draft
    changes: list[Change]
    lines: list[Line]


class Journal:
    """One account's journal, held by one process for as long as it is open.

    Args:
        path: The database; a lock file lies beside it. A local disk: SQLite's WAL does not work over a network.
        connect: Opens it; tests put a disk there that loses power.

    Attributes:
        state: What the lines make; read it, never change it.
        epoch: Counts the starts; every line carries it.
    """

    def __init__(self, path: Path, *, connect: Connect = connect) -> None:
        self.path = path
        self._connect = connect
        self.state = State()
        self.epoch = 0
        self._head = (0, FIRST_HASH)
        self._lock: IO[str] | None = None
        self._database: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._thread = DiskThread()
        self._turn = asyncio.Lock()
        self._broken = ""

    def __enter__(self) -> Self:
        """Take the lock, check every line, fold them, and begin a new epoch. Start-up and recovery are this.

        Raises:
            ConfigurationError: Another process holds the journal, or the file system does not keep its promises.
            DataError: The file is damaged, or a line is not what was written; the message names the first.
            DisagreementError: The tables do not follow from the lines.
        """
        self._take_lock()
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self.close()
            raise DataError(
                f"journal {self.path.name}: expected a whole database, SQLite finds: {error}; restore the file from a "
                "copy, and compare with the broker before trading"
            ) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the commit under way, close the database and let go of the lock."""
        self._thread.close()
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def commit(
        self, entries: Sequence[Entry], meanwhile: Callable[[Awaitable[None]], None] | None = None
    ) -> list[Change]:
        """Write entries durably and return what each did; only the disk is waited for in a thread of the journal's own.

        The statements before it run here: each of them gives up the interpreter, and in a thread would wait for it to
        come back, time and again, while ticks pour in.

        Args:
            entries: What to write.
            meanwhile: Called once the disk is at it, with what tells when they are durable, or raises if never.

        Raises:
            DataError: The disk did not take them. Nothing was written, and the journal refuses everything from now on.
            InputError: An entry contradicts the journal; nothing was written.
        """
        async with self._turn:
            begun = self._begin(entries)
            durable = self._thread.do(self._end)
            if meanwhile is not None:
                meanwhile(durable)
            try:
                await durable
            except asyncio.CancelledError:
                if durable.exception() is None:
                    self._keep(begun)
                raise
            return self._keep(begun)

    def commit_now(self, entries: Sequence[Entry]) -> list[Change]:
        """Write entries durably from this thread; see `commit`."""
        begun = self._begin(entries)
        self._end()
        return self._keep(begun)

    def _begin(self, entries: Sequence[Entry]) -> _Begun:
        """Open a transaction and write entries into it."""
        if self._broken or self._database is None:
            raise DataError(
                f"journal {self.path.name}: expected an open journal, found {self._broken or 'a closed one'}"
            )
        self._check_place()
        begun = self._prepare(entries)
        with self._undoing(self._database):
            self._database.execute("BEGIN IMMEDIATE")
            self._write(begun.lines, begun.draft)
        return begun

    def _check_place(self) -> None:
        """Refuse to write where a restart would not look: SQLite goes on in a file that was deleted or replaced."""
        try:
            found = _identity(os.stat(self.path))
        except OSError:
            found = None
        if found != self._file:
            self._broken = "its file gone"
            raise DataError(
                f"journal {self.path.name}: expected the file that was opened in its place, found "
                f"{'none' if found is None else 'another'}; no order may be sent; put it back, or restore a copy and "
                "compare with the broker, and start again"
            )

    def _prepare(self, entries: Sequence[Entry]) -> _Begun:
        draft = Draft(self.state)
        changes = [draft.take(entry) for entry in entries]
        return _Begun(draft, changes, self._lines(entries))

    def _end(self) -> None:
        """Make the transaction durable."""
        assert self._database is not None  # noqa: S101  (begun on it)
        with self._undoing(self._database):
            self._database.execute("COMMIT")

    def _keep(self, begun: _Begun) -> list[Change]:
        """Let the state follow what is durable."""
        begun.draft.keep()
        self._head = (begun.lines[-1].seq, begun.lines[-1].hash) if begun.lines else self._head
        return begun.changes

    @contextmanager
    def _undoing(self, database: sqlite3.Connection) -> Iterator[None]:
        """Roll back where anything fails; where the disk did, refuse everything from now on."""
        try:
            try:
                yield
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            self._broken = f"{type(error).__name__}: {error}"
            raise DataError(
                f"journal {self.path.name}: could not be written ({error}); nothing was, no order may be sent; "
                "mend the disk and start again"
            ) from error

    def rehearse(self, entries: Sequence[Entry]) -> None:
        """Do what `commit` does before it touches the database, and forget it."""
        self._prepare(entries)

    def lines(self, client_order_id: str | None = None, *, after: int = 0) -> Iterator[Line]:
        """Yield lines in order: all of them after one, or those of one order."""
        assert self._database is not None  # noqa: S101
        yield from read_lines(self._database, client_order_id, after=after)

    def last(self, kind: Kind) -> Line | None:
        """Return the last line of a kind, None where there is none; quick for those that a start looks for."""
        assert self._database is not None  # noqa: S101
        return read_last(self._database, kind)

    def _take_lock(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = open(f"{self.path}.lock", "w", opener=_private)  # noqa: SIM115  (held until close)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise ConfigurationError(
                f"journal {self.path.name}: expected to be the only process, found another one trading with it; "
                "stop that first"
            ) from None

    def _open(self) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)  # before SQLite makes it readable for others
        self._file = _identity(os.fstat(handle))
        os.close(handle)
        self._database = self._connect(self.path)
        for name, value in _PRAGMAS.items():
            self._database.execute(f"PRAGMA {name} = {value}")
            found = self._database.execute(f"PRAGMA {name}").fetchone()[0]
            if found != value:
                raise ConfigurationError(
                    f"journal {self.path.name}: expected {name} {value}, found {found}; keep it on a local disk"
                )
        self._check_version()  # before anything of ours is put into a file that a newer version wrote
        self._database.executescript(files("tasks.journal").joinpath("schema.sql").read_text(encoding="utf-8"))
        self._recover()

    def _check_version(self) -> None:
        assert self._database is not None  # noqa: S101
        if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'head'").fetchone():
            return
        found = self._database.execute("SELECT max(schema_version) FROM head").fetchone()[0]
        if found not in (None, SCHEMA_VERSION):
            raise ConfigurationError(
                f"journal {self.path.name}: expected schema {SCHEMA_VERSION}, found {found}; trade with the version "
                "that wrote it, nothing was changed"
            )

    def _recover(self) -> None:
        assert self._database is not None  # noqa: S101
        head = read_head(self._database)
        self.state = recover(self._database, self.path.name)
        self._head, self.epoch = (head.seq, head.hash), head.epoch + 1
        self.commit_now([Entry(Kind.START, body={"pid": os.getpid(), "orders": len(self.state.orders)})])

    def _lines(self, entries: Sequence[Entry]) -> list[Line]:
        (seq, digest), wall, mono = self._head, time.time_ns(), time.monotonic_ns()
        lines = []
        for entry in entries:
            seq += 1
            identifier = entry.client_order_id or getattr(entry.body, "client_order_id", "")
            fields = (seq, self.epoch, wall, mono, identifier, entry.kind.value, encode(entry.body))
            digest = chain(digest, fields)
            lines.append(Line(*fields, digest))
        return lines

    def _write(self, lines: Sequence[Line], draft: Draft) -> None:
        database = self._database
        assert database is not None  # noqa: S101
        database.executemany(_INSERT_LINE, map(astuple, lines))
        if draft.signals:
            database.executemany("INSERT INTO signals VALUES (?, ?)", draft.signals.items())
        if draft.trades:
            fills = ((*key, owner) for key, owner in draft.trades.items())
            database.executemany("INSERT INTO fills VALUES (?, ?, ?, ?)", fills)
        if draft.orders:
            orders = ((key, order.status.value, encode(order)) for key, order in draft.orders.items())
            database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", orders)
        if draft.positions:
            positions = ((*key, str(quantity)) for key, quantity in draft.positions.items())
            database.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", positions)
        if lines:
            head = (lines[-1].seq, lines[-1].hash, self.epoch, SCHEMA_VERSION)
            database.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?)", head)


def _identity(found: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from every other one."""
    return found.st_dev, found.st_ino


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
