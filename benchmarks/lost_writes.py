"""What a power cut leaves: the order desk on a disk that drops every write that was not synced.

    python -m benchmarks.lost_writes                # 500 cuts, and the ways of writing that must fail

`kill -9` does not test this, as the page cache survives it. Here SQLite (apsw's, as Python can be its disk) runs the
journal's own statements on a `Disk` that keeps apart what was synced. At random moments the disk is copied as a cut
would leave it: what was synced, and of the rest nothing or a random part. Each copy is then opened as a start does, and
every order whose bytes had reached the broker by then has to be in it, as one that was about to be sent.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

import apsw
import structlog

from benchmarks.killed_orders import LIMITS, PACE, SYMBOLS, Trader
from benchmarks.runner import Table
from flows.trading import OrderDesk
from tasks.broker.matching import Terms
from tasks.broker.paper import PaperBroker
from tasks.broker.port import BrokerOrder, Recorded, on_disk
from tasks.errors import DataError, DisagreementError
from tasks.journal.journal import Connect, Journal
from tasks.orders.account import Market
from tasks.orders.order import ZERO, OrderRequest, Status

#: Of the operations on the disk, the share at which a cut is tried.
_CUT_P = 0.2
_PAGES_UNTIL_CHECKPOINT = 40


@dataclass(frozen=True, slots=True)
class Cut:
    """A disk as a power cut leaves it.

    Attributes:
        files: Name to content.
        sent: Every order whose bytes had reached the broker.
    """

    files: dict[str, bytes]
    sent: frozenset[str]


@dataclass
class Disk:
    """Files with their content as of the last sync, and what was written since.

    Attributes:
        random: Decides when power fails and which unsynced writes had made it to the disk by chance.
        wanted: How many cuts to take.
        sent: Orders whose bytes have reached the broker.
        cuts: What was taken.
    """

    random: Random
    wanted: int
    sent: set[str] = field(default_factory=set)
    cuts: list[Cut] = field(default_factory=list)
    armed: bool = False
    _synced: dict[str, bytes] = field(default_factory=dict)
    _waiting: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)

    def write(self, name: str, offset: int, data: bytes | None) -> None:
        """Note a write, or a truncation at `offset` where there is no data."""
        self._maybe_cut()
        self._waiting.setdefault(name, []).append((offset, data))

    def sync(self, name: str) -> None:
        """Make what was written durable."""
        self._maybe_cut()
        self._synced[name] = _applied(self._synced.get(name, b""), self._waiting.pop(name, []))

    def delete(self, name: str) -> None:
        """Forget a file; the rollback journals of a database's birth are all that is ever deleted here."""
        self._synced.pop(name, None)
        self._waiting.pop(name, None)

    def _maybe_cut(self) -> None:
        if self.armed and len(self.cuts) < self.wanted and self.random.random() < _CUT_P:
            survival = self.random.choice((0.0, 0.0, 0.5))
            self.cuts.append(Cut(dict(self._survivors(survival)), frozenset(self.sent)))

    def _survivors(self, survival: float) -> Iterable[tuple[str, bytes]]:
        for name in {*self._synced, *self._waiting}:
            lucky = [one for one in self._waiting.get(name, []) if self.random.random() < survival]
            yield name, _applied(self._synced.get(name, b""), lucky)


def _applied(content: bytes, changes: Iterable[tuple[int, bytes | None]]) -> bytes:
    grown = bytearray(content)
    for offset, data in changes:
        if data is None:
            del grown[offset:]
            continue
        grown.extend(bytes(max(0, offset - len(grown))))
        grown[offset : offset + len(data)] = data
    return bytes(grown)


class _FileSystem(apsw.VFS):
    """SQLite's view of a disk; real files carry what is written, the disk remembers what of it is durable."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (SQLite's name)
        """Open a file."""
        return _File(name, flags, self._disk)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Delete a file."""
        super().xDelete(filename, syncdir)
        self._disk.delete(Path(filename).name)


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], disk: Disk) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write, to be lost unless synced."""
        super().xWrite(data, offset)
        self._disk.write(self._name, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Cut off, to be undone unless synced."""
        super().xTruncate(newsize)
        self._disk.write(self._name, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Sync, as far as the simulated disk goes."""
        self._disk.sync(self._name)


class Connection:
    """apsw's connection with the words of `sqlite3`'s that the journal speaks."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._real = apsw.Connection(str(path), vfs=vfs)
        self._real.execute("PRAGMA locking_mode = EXCLUSIVE")  # WAL without shared memory, which a Python VFS lacks
        self._real.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_UNTIL_CHECKPOINT}")  # so that cuts hit those too

    def execute(self, statement: str, bindings: tuple[Any, ...] = ()) -> apsw.Cursor:
        """Run a statement."""
        return self._real.execute(statement, bindings)

    def executemany(self, statement: str, bindings: Iterable[tuple[Any, ...]]) -> apsw.Cursor:
        """Run a statement for every row."""
        return self._real.executemany(statement, bindings)

    def executescript(self, script: str) -> None:
        """Run statements."""
        self._real.execute(script)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._real.in_transaction

    def close(self) -> None:
        """Close."""
        self._real.close()


class Unsynced(Connection):
    """Somebody switched syncing off behind the journal's back: a broken way that has to be caught."""

    level = "OFF"

    def execute(self, statement: str, bindings: tuple[Any, ...] = ()) -> apsw.Cursor:
        """Run a statement."""
        if statement == "BEGIN IMMEDIATE":
            super().execute(f"PRAGMA synchronous = {self.level}")
        return super().execute(statement, bindings)


class SyncedAtCheckpoints(Unsynced):
    """The default of many: WAL with ``synchronous=NORMAL``. It has to be caught."""

    level = "NORMAL"


class Late(Connection):
    """Commits are gathered, and orders are sent meanwhile: it has to be caught."""

    gathered = 5
    _held = 0

    def execute(self, statement: str, bindings: tuple[Any, ...] = ()) -> apsw.Cursor:
        """Run a statement, but of the commits only every fifth."""
        if statement == "COMMIT":
            self._held = (self._held + 1) % self.gathered
        skipped = self._held and statement in ("BEGIN IMMEDIATE", "COMMIT")
        return super().execute("SELECT 1" if skipped else statement, bindings)


OURS = "ours"
WAYS: dict[str, type[Connection]] = {
    OURS: Connection,
    "synchronous=OFF": Unsynced,
    "synchronous=NORMAL": SyncedAtCheckpoints,
    "commit after send": Late,
}


class Wire(PaperBroker):
    """A paper account that notes whose bytes arrived."""

    disk: Disk

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order, of which the broker knows from the moment it may leave."""
        await recorded()
        self.disk.sent.add(request.client_order_id)
        return await super().submit(request, sent_at)


@dataclass(frozen=True, slots=True)
class Tally:
    """What was found after the cuts.

    Attributes:
        cuts: Taken.
        sent: Orders that had reached the broker, over all cuts.
        lost: Those of them that the journal did not know.
        damaged: Journals that could not be opened.
    """

    cuts: int
    sent: int
    lost: int
    damaged: int

    @property
    def holds(self) -> bool:
        """Whether every order was on record before it was sent."""
        return not (self.lost or self.damaged)


def cut_power(way: str, cuts: int, *, seed: int) -> Tally:
    """Trade until power was cut so many times, and look at what each cut left."""
    disk = Disk(Random(seed), cuts)  # noqa: S311  (a moment, not a secret)
    with tempfile.TemporaryDirectory() as folder:
        vfs = _FileSystem(f"cut-{seed}-{way}", disk)
        connect = partial(WAYS[way], vfs=f"cut-{seed}-{way}")
        asyncio.run(_trade(Path(folder), disk, cast("Connect", connect)))
        vfs.unregister()
    found = [_after(cut) for cut in disk.cuts]
    sent = sum(len(cut.sent) for cut in disk.cuts)
    return Tally(len(found), sent, sum(one or 0 for one in found), sum(one is None for one in found))


async def _trade(folder: Path, disk: Disk, connect: Connect) -> None:
    clock, stop = partial(datetime.now, UTC), asyncio.Event()
    broker = Wire(folder / "paper.sqlite", clock=clock, terms=Terms(latency_s=ZERO))
    broker.disk = disk
    for symbol in SYMBOLS:
        broker.on_book(symbol, [(99.0, 1e6)], [(101.0, 1e6)], clock())
    with Journal(folder / "orders.sqlite", connect=connect) as journal:
        trader: Trader
        desk = OrderDesk(
            journal,
            broker,
            account="proof",
            limits=LIMITS,
            market=lambda symbol: Market(ZERO + 100, period_price=ZERO + 100),
            clock=clock,
            on_change=lambda order: trader.on_change(order),
            pace=PACE,
        )
        trader, disk.armed = Trader(desk, journal), True
        async with asyncio.TaskGroup() as group:
            running = group.create_task(desk.run(stop))
            trading = [group.create_task(trader.trade(symbol)) for symbol in SYMBOLS]
            while len(disk.cuts) < disk.wanted:  # noqa: ASYNC110  (taken in the journal's thread)
                await asyncio.sleep(0.01)
            disk.armed = False
            stop.set()
            await running
            for task in trading:
                task.cancel()
    await broker.close()


def _after(cut: Cut) -> int | None:
    """Return how many orders that were sent a start on this disk does not know; None where it cannot start."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in cut.files.items():
            (Path(folder) / name).write_bytes(content)
        try:
            with Journal(Path(folder) / "orders.sqlite") as journal:
                orders = journal.state.orders
                known = {key for key, order in orders.items() if order.status is not Status.INITIALIZED}
        except (DataError, DisagreementError):
            return None
    return len(cut.sent - known)


def main() -> None:
    """Print the table; exit 1 where our way lost an order or a broken one did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=500, help="for our way; a tenth for each broken one, at least 30")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a desk that is stopped in full flight
    table = Table("Power cuts")
    for way in WAYS:
        tally = cut_power(way, arguments.cuts if way == OURS else max(30, arguments.cuts // 10), seed=arguments.seed)
        detail = f"{tally.cuts} cuts, {tally.sent} orders had reached the broker, {tally.damaged} journals damaged"
        at_most, at_least = (0, None) if way == OURS else (None, 1)
        table.figure(
            f"orders sent and not on record, {way}",
            tally.lost + tally.damaged,
            at_most=at_most,
            at_least=at_least,
            detail=detail,
        )
    table.finish()


if __name__ == "__main__":
    main()
