"""The journal keeps what it promised: durable before the send, whole after a kill, and every meddling found."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tasks.errors import ConfigurationError, DataError, DisagreementError, InputError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.lifecycle import Event
from tasks.orders.order import Fill, OrderRequest, Side, Status
from tasks.orders.states import Happening

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request(number: int = 1, side: Side = Side.BUY) -> OrderRequest:
    """Return an order for ten units, decided on a signal of its own."""
    return OrderRequest(f"kh{number:016d}", "paper", "BTCUSDT", side, Decimal(10), signal_key=f"signal {number}")


def created(number: int = 1, side: Side = Side.BUY) -> Entry:
    """Return the entry that creates an order."""
    return Entry(Kind.CREATED, body=request(number, side))


def event(kind: Happening, number: int = 1) -> Entry:
    """Return an entry for an event of an order."""
    return Entry(Kind.EVENT, f"kh{number:016d}", Event(kind))


def filled(trade_id: str, quantity: int, number: int = 1) -> Entry:
    """Return an entry for a fill of an order."""
    fill = Fill(trade_id, Decimal(100), Decimal(quantity), Decimal(0), NOW)
    return Entry(Kind.EVENT, f"kh{number:016d}", Event(Happening.FILLED_PART, fill=fill))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal may lie."""
    return tmp_path / "orders.sqlite"


def a_life(path: Path) -> None:
    """Write the life of two orders."""
    with Journal(path) as journal:
        journal.commit_now([created(), Entry(Kind.RISK, request().client_order_id, {"verdict": "pass"})])
        journal.commit_now([event(Happening.SUBMIT_INTENDED)])
        journal.commit_now([event(Happening.ACKED), filled("t1", 4)])
        journal.commit_now([created(2, Side.SELL), event(Happening.SUBMIT_INTENDED, 2), filled("t2", 10, 2)])


def test_a_restart_finds_everything(path: Path) -> None:
    """Orders, positions, signals and trades after a start are what they were; the epoch counts the starts."""
    a_life(path)
    with Journal(path) as journal:
        state = journal.state
        assert journal.epoch == 2
        assert state.orders[request(1).client_order_id].status is Status.PARTIALLY_FILLED
        assert state.orders[request(2).client_order_id].status is Status.FILLED
        assert state.positions == {("paper", "BTCUSDT"): Decimal(-6)}
        assert set(state.signals) == {"signal 1", "signal 2"}
        assert len(state.trades) == 2


def test_a_signal_becomes_one_order(path: Path) -> None:
    """The same signal after a restart is refused as known, and nothing of the batch is written."""
    a_life(path)
    with Journal(path) as journal:
        before = sum(1 for _ in journal.lines())
        with pytest.raises(InputError, match="the same signal is the same order"):
            journal.commit_now([created(3), created(1)])
        assert sum(1 for _ in journal.lines()) == before
        assert request(3).client_order_id not in journal.state.orders


def test_a_trade_counts_for_one_order(path: Path) -> None:
    """A trade that another order already counted is an anomaly and moves nothing."""
    a_life(path)
    with Journal(path) as journal:
        change = journal.commit_now([filled("t2", 3, 1)])[0]
        assert change.applied is not None
        assert "belongs to order" in change.applied.anomaly
        assert journal.state.positions == {("paper", "BTCUSDT"): Decimal(-6)}


def test_a_busted_trade_never_counts_again(path: Path) -> None:
    """A replay tells a trade that was taken back; it is known for ever and moves nothing."""
    a_life(path)
    bust = Entry(Kind.EVENT, request().client_order_id, Event(Happening.BUSTED, trade_id="t1"))
    with Journal(path) as journal:
        *_, change = journal.commit_now([bust, filled("t1", 4)])
        assert change.applied is not None
        assert change.applied.duplicate
        assert journal.state.positions == {("paper", "BTCUSDT"): Decimal(-10)}


def test_a_second_process_is_refused(path: Path) -> None:
    """Two processes on one journal would trade twice; the second does not start."""
    with (
        Journal(path),
        pytest.raises(ConfigurationError, match="only process"),
        Journal(path),
    ):
        pytest.fail("a second journal was opened")


def test_a_failed_commit_ends_trading(path: Path) -> None:
    """After a disk error nothing was written, memory is as before, and every further commit is refused."""
    with Journal(path) as journal:
        journal.commit_now([created()])
        assert journal._database is not None
        journal._database.execute("PRAGMA max_page_count = 1")
        big = Entry(Kind.ERROR, body="x" * 1_000_000)
        with pytest.raises(DataError, match="no order may be sent"):
            journal.commit_now([created(2), big])
        assert request(2).client_order_id not in journal.state.orders
        with pytest.raises(DataError, match="expected an open journal"):
            journal.commit_now([created(3)])
    with Journal(path) as journal:
        assert set(journal.state.orders) == {request(1).client_order_id}


@pytest.mark.parametrize("meddling", ["deleted", "replaced"])
def test_a_file_that_is_gone_ends_trading(path: Path, meddling: str) -> None:
    """SQLite would go on in a file that no restart finds: every further commit is refused, and nothing is sent."""
    with Journal(path) as journal:
        journal.commit_now([created()])
        copy = path.read_bytes()
        path.unlink()
        if meddling == "replaced":
            path.with_suffix(".copy").write_bytes(copy)
            path.with_suffix(".copy").rename(path)
        with pytest.raises(DataError, match="the file that was opened"):
            journal.commit_now([created(2)])
        with pytest.raises(DataError, match="expected an open journal"):
            journal.commit_now([created(3)])
        assert set(journal.state.orders) == {request(1).client_order_id}


def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    """Its tables may mean something else: the start is refused before anything is put into it."""
    a_life(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE head SET schema_version = 2")
        database.execute("DROP INDEX journal_by_order")
        database.execute("ALTER TABLE journal RENAME COLUMN kind TO sort")
        newer = database.execute("SELECT sql FROM sqlite_master").fetchall()
    with pytest.raises(ConfigurationError, match="expected schema 1, found 2"), Journal(path):
        pytest.fail("a newer journal was opened")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT sql FROM sqlite_master").fetchall() == newer


async def test_a_commit_outlives_whoever_waits_for_it(path: Path) -> None:
    """A commit whose caller is cancelled is still made whole, and the next one begins after it."""
    with Journal(path) as journal:
        leaver = asyncio.create_task(journal.commit([created(1)]))
        await asyncio.sleep(0)  # it has begun
        leaver.cancel()
        await journal.commit([created(2)])
        assert leaver.cancelled()
        assert len(journal.state.orders) == 2
    with Journal(path) as journal:
        assert len(journal.state.orders) == 2


MEDDLING = {
    "a flipped byte": "UPDATE journal SET payload = CAST(replace(payload, '100', '900') AS BLOB) WHERE seq = 6",
    "a dropped line": "DELETE FROM journal WHERE seq = 4",
    "a changed time": "UPDATE journal SET wall_ns = wall_ns + 1 WHERE seq = 4",
    "swapped lines": "UPDATE journal SET seq = CASE seq WHEN 3 THEN -4 ELSE -3 END WHERE seq IN (3, 4);"
    "UPDATE journal SET seq = -seq WHERE seq < 0",
    "a cut end": "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
}
FIRST_BAD = {"a flipped byte": 6, "a dropped line": 4, "a changed time": 4, "swapped lines": 3, "a cut end": None}


@pytest.mark.parametrize("name", MEDDLING)
def test_meddling_is_located(path: Path, name: str) -> None:
    """A flipped, dropped, swapped or cut line is named before anything trades on it."""
    a_life(path)
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER journal_keeps_lines; DROP TRIGGER journal_drops_nothing;" + MEDDLING[name])
    database.close()
    said = "cut off" if FIRST_BAD[name] is None else f"line {FIRST_BAD[name]} is not"
    with pytest.raises(DataError, match=said), Journal(path):
        pytest.fail("a broken journal was opened")


@pytest.mark.parametrize(
    "meddling",
    [
        "UPDATE positions SET quantity = '7'",
        "DELETE FROM fills WHERE trade_id = 't1'",
        "UPDATE orders SET state = CAST(replace(state, 'partially_filled', 'filled') AS BLOB)",
        "DELETE FROM signals",
    ],
)
def test_tables_must_follow_from_the_lines(path: Path, meddling: str) -> None:
    """A table that says something else than the lines stops the start."""
    a_life(path)
    database = sqlite3.connect(path)
    database.execute(meddling)
    database.commit()
    database.close()
    with pytest.raises(DisagreementError, match="expected the table"), Journal(path):
        pytest.fail("a disagreeing journal was opened")


def test_an_orders_lines_are_found_and_not_searched_for(path: Path) -> None:
    """What SQLite does for one order's lines does not grow with the journal: a start asks for those of many orders."""
    steps: list[int] = []
    with Journal(path) as journal:
        journal.commit_now([created(), *(Entry(Kind.ERROR, f"kh{number:016d}", "x") for number in range(2, 3_000))])
        assert journal._database is not None
        journal._database.set_progress_handler(lambda: steps.append(1), 100)
        assert len(list(journal.lines(request().client_order_id))) == 1
    assert len(steps) < 10


def test_lines_cannot_be_changed_in_place(path: Path) -> None:
    """The database itself refuses to update or delete a line."""
    a_life(path)
    database = sqlite3.connect(path)
    for statement in ("UPDATE journal SET kind = 'x'", "DELETE FROM journal"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)
    database.close()


def test_nobody_else_may_read_it(path: Path) -> None:
    """The journal and its lock belong to their owner alone."""
    a_life(path)
    assert {oct(found.stat().st_mode & 0o777) for found in path.parent.iterdir()} == {"0o600"}


WRITER = """
import sys
from pathlib import Path
from tests.journal.test_journal import created, event, filled
from tasks.orders.states import Happening
from tasks.journal.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    for number in range(int(sys.argv[2]), 10**9):
        sent = event(Happening.SUBMIT_INTENDED, number)
        journal.commit_now([created(number), sent, filled(f"t{number}", 10, number)])
        print(number, flush=True)
"""


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """Every order reported as committed before a SIGKILL is there after it, ten kills in a row."""
    first = 1
    for _ in range(10):
        command = [sys.executable, "-c", WRITER, str(path), str(first)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."})
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(5)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        with Journal(path) as journal:
            assert {f"kh{number:016d}" for number in said} <= set(journal.state.orders)
            assert journal.state.positions["paper", "BTCUSDT"] == 10 * len(journal.state.orders)
            first = len(journal.state.orders) + 1


def test_a_damaged_file_is_named(path: Path) -> None:
    """A file that SQLite itself cannot read stops the start in our words."""
    a_life(path)
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    with pytest.raises(DataError, match="expected a whole database"), Journal(path):
        pytest.fail("a damaged journal was opened")
