"""The paper broker's books: orders, fills, cash and holdings in one SQLite file, every commit durable when it returns.

It plays a broker's data centre, so that it is kept apart from our journal and outlives our process: `kill -9` loses
nothing that was answered. One process at a time; all calls come from one thread.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tasks.broker.matching import Execution, Terms, Working
from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.broker.purse import Holding
from tasks.errors import ConfigurationError
from tasks.orders.order import ZERO, Fill, OrderRequest, OrderType, Side, Status, TimeInForce

_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    client_order_id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL, quantity TEXT NOT NULL,
    order_type TEXT NOT NULL, limit_price TEXT, time_in_force TEXT NOT NULL, reduce_only INTEGER NOT NULL,
    active_at TEXT NOT NULL, resting INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL, filled TEXT NOT NULL DEFAULT '0', updated_at TEXT NOT NULL, reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS open_orders ON orders (number) WHERE status IN ('accepted', 'partially_filled');
CREATE TABLE IF NOT EXISTS fills (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    order_number INTEGER NOT NULL REFERENCES orders,
    price TEXT NOT NULL, quantity TEXT NOT NULL, fee TEXT NOT NULL, timestamp TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS fill_times ON fills (timestamp);
CREATE TABLE IF NOT EXISTS holdings (symbol TEXT PRIMARY KEY, quantity TEXT NOT NULL, price TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS dead_man (only INTEGER PRIMARY KEY CHECK (only = 1), at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cash (only INTEGER PRIMARY KEY CHECK (only = 1), amount TEXT NOT NULL) STRICT;
"""


#: Why orders ended that outlived whoever placed them.
DEAD_MAN = "nobody was heard of in time"


class Ledger:
    """The books on disk.

    Args:
        path: The file; created where there is none.
        terms: What trading costs; `initial_cash` counts for a new file only.

    Raises:
        ConfigurationError: Another process holds the file, or SQLite does not keep the durability asked of it.
    """

    def __init__(self, path: Path, terms: Terms) -> None:
        self._terms = terms
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(path.name + ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(f"paper broker {path}: another process holds it; stop that one first") from None
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        for name, value in _PRAGMAS.items():
            self._db.execute(f"PRAGMA {name} = {value}")
            found = self._db.execute(f"PRAGMA {name}").fetchone()[0]
            if found != value:
                self.close()
                raise ConfigurationError(
                    f"paper broker {path}: expected {name} {value}, found {found}: use a local disk"
                )
        self._db.executescript(_SCHEMA)
        self._db.execute("INSERT OR IGNORE INTO cash VALUES (1, ?)", (str(terms.initial_cash),))

    def place(self, request: OrderRequest, status: Status, active_at: datetime, now: datetime, reason: str) -> bool:
        """Enter an order, working or rejected; False where its client order id is taken, for ever."""
        with self._transaction():
            done = self._db.execute(
                "INSERT OR IGNORE INTO orders (client_order_id, account, symbol, side, quantity, order_type,"
                " limit_price, time_in_force, reduce_only, active_at, status, updated_at, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    request.client_order_id,
                    request.account,
                    request.symbol,
                    request.side,
                    str(request.quantity),
                    request.order_type,
                    None if request.limit_price is None else str(request.limit_price),
                    request.time_in_force,
                    request.reduce_only,
                    _text(active_at),
                    status,
                    _text(now),
                    reason,
                ),
            )
            return done.rowcount == 1

    def execute(
        self, client_order_id: str, executions: Sequence[Execution], at: datetime, ends: Status | None, reason: str
    ) -> tuple[list[BrokerFill], BrokerOrder]:
        """Book executions of an order, and its end where it ends; returns both as the broker reports them."""
        with self._transaction():
            row = self._row(client_order_id)
            fills = [self._book(row, one, at) for one in executions]
            filled = Decimal(row["filled"]) + sum((one.quantity for one in executions), ZERO)
            status = Status.PARTIALLY_FILLED if filled else Status(row["status"])
            status = Status.FILLED if filled >= Decimal(row["quantity"]) else ends or status
            self._db.execute(
                "UPDATE orders SET filled = ?, status = ?, updated_at = ?, reason = ?, resting = order_type = 'limit'"
                " WHERE number = ?",
                (str(filled), status, _text(at), reason, row["number"]),
            )
            return fills, _order(self._row(client_order_id))

    def rest(self, client_order_id: str) -> None:
        """Note that an order met the market without a fill and waits at its price from now on."""
        with self._transaction():
            self._db.execute("UPDATE orders SET resting = 1 WHERE client_order_id = ?", (client_order_id,))

    def expire_at(self, at: datetime | None) -> None:
        """Note when everything ends unless somebody is heard of before, None for never."""
        with self._transaction():
            self._db.execute("DELETE FROM dead_man")
            if at is not None:
                self._db.execute("INSERT INTO dead_man VALUES (1, ?)", (_text(at),))

    def expire(self, now: datetime) -> None:
        """End everything whose time came while nobody looked."""
        found = self._db.execute("SELECT at FROM dead_man").fetchone()
        if found is None or datetime.fromisoformat(found["at"]) > now:
            return
        with self._transaction():
            self._db.execute(
                "UPDATE orders SET status = ?, updated_at = ?, reason = ?"
                " WHERE status IN ('accepted', 'partially_filled')",
                (Status.CANCELED, found["at"], DEAD_MAN),
            )
            self._db.execute("DELETE FROM dead_man")

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return an order, None where the id was never used."""
        found = self._db.execute("SELECT * FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()
        return None if found is None else _order(found)

    def open_orders(self) -> list[BrokerOrder]:
        """Return the working orders, oldest first."""
        return [_order(row) for row in self._open_rows()]

    def working(self) -> list[Working]:
        """Return what is needed to go on matching after a start, oldest first."""
        return [
            Working(
                _request(row),
                Decimal(row["quantity"]) - Decimal(row["filled"]),
                datetime.fromisoformat(row["active_at"]),
                bool(row["resting"]),
                committed=True,
            )
            for row in self._open_rows()
        ]

    def fills(self, since: datetime) -> list[BrokerFill]:
        """Return the executions from `since` on, oldest first."""
        rows = self._db.execute(
            "SELECT fills.*, client_order_id, symbol, side FROM fills JOIN orders ON orders.number = order_number"
            " WHERE timestamp >= ? ORDER BY fills.number",
            (_text(since),),
        )
        return [_fill(row) for row in rows]

    def cash(self) -> Decimal:
        """Return the cash, quote asset."""
        return Decimal(self._db.execute("SELECT amount FROM cash").fetchone()[0])

    def holdings(self) -> dict[str, Holding]:
        """Return what is held by symbol, flat ones left out."""
        rows = self._db.execute("SELECT * FROM holdings")
        held = {row["symbol"]: Holding(Decimal(row["quantity"]), Decimal(row["price"])) for row in rows}
        return {symbol: holding for symbol, holding in held.items() if holding.quantity}

    def close(self) -> None:
        """Close the file and let others have it."""
        self._db.close()
        self._lock.close()

    def _book(self, row: sqlite3.Row, execution: Execution, at: datetime) -> BrokerFill:
        fee, signed = self._terms.fee(execution), Side(row["side"]).sign * execution.quantity
        number = self._db.execute(
            "INSERT INTO fills (order_number, price, quantity, fee, timestamp) VALUES (?, ?, ?, ?, ?) RETURNING number",
            (row["number"], str(execution.price), str(execution.quantity), str(fee), _text(at)),
        ).fetchone()[0]
        self._db.execute("UPDATE cash SET amount = ?", (str(self.cash() - signed * execution.price - fee),))
        held = self._db.execute("SELECT quantity FROM holdings WHERE symbol = ?", (row["symbol"],)).fetchone()
        total = signed + (ZERO if held is None else Decimal(held[0]))
        self._db.execute("REPLACE INTO holdings VALUES (?, ?, ?)", (row["symbol"], str(total), str(execution.price)))
        found = self._db.execute(
            "SELECT fills.*, client_order_id, symbol, side FROM fills JOIN orders ON orders.number = order_number"
            " WHERE fills.number = ?",
            (number,),
        )
        return _fill(found.fetchone())

    def _row(self, client_order_id: str) -> sqlite3.Row:
        return self._db.execute("SELECT * FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()

    def _open_rows(self) -> list[sqlite3.Row]:
        text = "SELECT * FROM orders WHERE status IN ('accepted', 'partially_filled') ORDER BY number"
        return self._db.execute(text).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite rolls back by itself where the disk is full
                self._db.execute("ROLLBACK")
            raise


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _request(row: sqlite3.Row) -> OrderRequest:
    return OrderRequest(
        client_order_id=row["client_order_id"],
        account=row["account"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        quantity=Decimal(row["quantity"]),
        order_type=OrderType(row["order_type"]),
        limit_price=None if row["limit_price"] is None else Decimal(row["limit_price"]),
        time_in_force=TimeInForce(row["time_in_force"]),
        reduce_only=bool(row["reduce_only"]),
    )


def _order(row: sqlite3.Row) -> BrokerOrder:
    return BrokerOrder(
        client_order_id=row["client_order_id"],
        broker_order_id=f"paper-{row['number']}",
        symbol=row["symbol"],
        side=Side(row["side"]),
        quantity=Decimal(row["quantity"]),
        filled_quantity=Decimal(row["filled"]),
        status=Status(row["status"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        reason=row["reason"],
    )


def _fill(row: sqlite3.Row) -> BrokerFill:
    return BrokerFill(
        client_order_id=row["client_order_id"],
        broker_order_id=f"paper-{row['order_number']}",
        symbol=row["symbol"],
        side=Side(row["side"]),
        fill=Fill(
            trade_id=f"paper-{row['number']}",
            price=Decimal(row["price"]),
            quantity=Decimal(row["quantity"]),
            fee=Decimal(row["fee"]),
            timestamp=datetime.fromisoformat(row["timestamp"]),
        ),
    )
