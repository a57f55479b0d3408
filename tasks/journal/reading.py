"""Reading a journal: every line checked, folded, and held against the tables that were written beside it."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tasks.errors import DataError, DisagreementError
from tasks.journal.entries import FIRST_HASH, Kind, Line, chain, decode_event, decode_request, encode
from tasks.journal.state import State

SCHEMA_VERSION = 1
COLUMNS = "seq, epoch, wall_ns, mono_ns, client_order_id, kind, payload, hash"


@dataclass(frozen=True, slots=True)
class Head:
    """The last line, kept apart so that lines cut off at the end are missed too."""

    seq: int = 0
    hash: bytes = FIRST_HASH
    epoch: int = 0
    schema_version: int = SCHEMA_VERSION


def read_head(database: sqlite3.Connection) -> Head:
    """Return the last line's number and hash, the epoch and the schema; an empty journal has a head too."""
    row = database.execute("SELECT seq, hash, epoch, schema_version FROM head").fetchone()
    return Head(*row) if row else Head()


def read_lines(database: sqlite3.Connection, client_order_id: str | None = None, *, after: int = 0) -> Iterator[Line]:
    """Yield lines in order: all of them after one, or those of one order."""
    query = f"SELECT {COLUMNS} FROM journal"  # noqa: S608  (a constant)
    if client_order_id is None:
        cursor = database.execute(f"{query} WHERE seq > ? ORDER BY seq", (after,))
    else:
        # The second condition says for sure what the first may say: without it SQLite leaves the partial index alone.
        wanted = "client_order_id = ? AND client_order_id <> ''"
        cursor = database.execute(f"{query} WHERE {wanted} ORDER BY seq", (client_order_id,))
    for row in cursor:
        yield Line(*row)


def read_last(database: sqlite3.Connection, kind: Kind) -> Line | None:
    """Return the last line of a kind, None where there is none."""
    # The kinds stand in the query itself, as SQLite would not use the partial index for a parameter.
    query = f"SELECT {COLUMNS} FROM journal WHERE kind = '{kind.value}' ORDER BY seq DESC LIMIT 1"  # noqa: S608
    row = database.execute(query).fetchone()
    return Line(*row) if row else None


def recover(database: sqlite3.Connection, name: str) -> State:
    """Return the state of a journal: every line checked and folded in one pass, the tables held against it.

    Raises:
        DataError: A line was changed, dropped or swapped; the message names the first.
        DisagreementError: A table does not follow from the lines.
    """
    with _without_collector():
        state = _fold(database, name)
        compare(database, state, name)
    return state


def _fold(database: sqlite3.Connection, name: str) -> State:
    # Plain rows, not lines: a million of them have to be read before trading can begin.
    state, previous, seq = State(), FIRST_HASH, 0
    created, event = Kind.CREATED.value, Kind.EVENT.value
    for row in database.execute(f"SELECT {COLUMNS} FROM journal ORDER BY seq"):  # noqa: S608  (a constant)
        seq += 1
        if row[0] != seq or chain(previous, row[:7]) != row[7]:
            raise DataError(
                f"journal {name}: line {seq} is not what was written; restore the file from a copy, "
                "and compare with the broker before trading"
            )
        identifier, kind, payload, previous = row[4:]
        if kind == created:
            state.create(decode_request(payload))
        elif kind == event:
            state.follow(identifier, decode_event(payload))
    head = read_head(database)
    if (head.seq, head.hash) != (seq, previous):
        raise DataError(f"journal {name}: expected {head.seq} lines, found {seq}; the end was cut off")
    return state


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the collector of cycles from walking through a growing heap that holds none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compare(database: sqlite3.Connection, state: State, name: str) -> None:
    """Hold the tables against the state that the lines make.

    Raises:
        DisagreementError: They differ; the message names the table and the first key.
    """
    for table, wanted, found in _pairs(database, state):
        if found != wanted:
            differing = [key for key in {*found, *wanted} if found.get(key) != wanted.get(key)]
            raise DisagreementError(
                f"journal {name}: expected the table {table} to follow from the lines, found it different at "
                f"{min(differing, key=str)} ({len(differing)} in all); do not trade, compare with the broker"
            )


def _pairs(database: sqlite3.Connection, state: State) -> Iterator[tuple[str, Mapping[Any, Any], Mapping[Any, Any]]]:
    """Yield each table's name, what it has to hold, and what it holds, one after the other to save memory."""
    read = database.execute
    encoded = {key: encode(order) for key, order in state.orders.items()}
    yield "orders", encoded, dict(read("SELECT client_order_id, state FROM orders"))
    held = {key: str(quantity) for key, quantity in state.positions.items()}
    rows = read("SELECT account, symbol, quantity FROM positions")
    yield "positions", held, {(account, symbol): quantity for account, symbol, quantity in rows}
    rows = read("SELECT account, symbol, trade_id, client_order_id FROM fills")
    yield "fills", state.trades, {(account, symbol, trade): order for account, symbol, trade, order in rows}
    yield "signals", state.signals, dict(read("SELECT signal_key, client_order_id FROM signals"))
