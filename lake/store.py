"""The lake: bars and every other table, each a Delta table under one root.

A table is read at one version, so that a reader never sees half a write; a write is one commit, so that a crash leaves
the table as it was. Two writers of one partition never lose or double a row: the later one reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TypeVar

import polars as pl

from lake.bars import BAR_TABLE, checked, checked_range, files_within, table_name, within
from lake.digest import content_hash
from lake.location import Location
from lake.rows import as_storable
from lake.schema import BARS
from lake.table import Snapshot, Table
from lake.writes import WriteReceipt, append_rows, until_first, update_rows, write_bars
from tasks.errors import InputError

_T = TypeVar("_T")

__all__ = ["Lake", "WriteReceipt"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Lake:
    """Bars and other tables under one root, a folder or object storage.

    Args:
        root: Local folder, or ``s3://bucket/prefix``.
        storage_options: Access to object storage, as `deltalake` names it; see docs/lake.md.
        clock: What "now" is: the time recorded with each commit and revision.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        storage_options: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.location = Location.of(root, storage_options)
        self._clock = clock
        self._readers: dict[str, Table] = {}
        self._writers: dict[str, Table] = {}
        self._lock = RLock()

    # Bars

    def write_bars(
        self, bars: pl.DataFrame, *, symbol: str, interval: str, start: datetime, end: datetime
    ) -> WriteReceipt:
        """Write bars into ``[start, end)`` in one atomic commit; identical content commits nothing.

        New bars win over old ones of the same timestamp, other old bars stay.

        Raises:
            DataError: Rows outside the range, or null, duplicated or unsorted timestamps. Nothing was written.
            ConflictError: Other writers were first in every attempt. Nothing was written.
        """
        first, last = checked_range(start, end)
        assert first is not None and last is not None  # noqa: S101, PT018  # both sides were given
        bars = checked(bars, first, last)
        name = table_name(interval)
        self._create(name, BAR_TABLE, ("symbol", "year"))
        return self._transact(name, lambda table: write_bars(table, symbol, bars))

    def scan_bars(
        self,
        interval: str,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        version: int | None = None,
    ) -> pl.LazyFrame:
        """Return bars lazily: `symbol` and `BARS`, each symbol's in order; columns and filters are pushed down."""
        name, (start, end) = table_name(interval), checked_range(start, end)
        if isinstance(symbols, str):
            raise InputError(f"symbols: expected a list of symbols, found the text {symbols!r}; write [{symbols!r}]")
        empty = pl.LazyFrame(schema={"symbol": pl.String(), **BARS})
        snapshot = self._snapshot(name, version)
        if snapshot is None:
            return empty
        files = files_within(snapshot, None if symbols is None else list(symbols), start, end)
        if not files.height:
            return empty
        return self._scan_files(name, files).select("symbol", *BARS).filter(within(start, end))

    def read_bars(
        self,
        symbol: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        columns: Sequence[str] | None = None,
        version: int | None = None,
    ) -> pl.DataFrame:
        """Return one symbol's bars in order: all of `BARS`, or the named columns."""
        lazy = self.scan_bars(interval, [symbol], start, end, version=version)
        return lazy.select(list(columns) if columns is not None else list(BARS)).collect()

    def bars_version(self, interval: str) -> int | None:
        """Return the version of the interval's table, None where there is none."""
        snapshot = self._snapshot(table_name(interval), None)
        return None if snapshot is None else snapshot.version

    def symbols(self, interval: str) -> list[str]:
        """Return the symbols that have bars of the interval, sorted."""
        snapshot = self._snapshot(table_name(interval), None)
        return [] if snapshot is None else sorted(snapshot.files["partition.symbol"].unique())

    def content_hash(
        self,
        interval: str,
        symbol: str,
        start: datetime | None = None,
        end: datetime | None = None,
        version: int | None = None,
    ) -> str:
        """Return a hash of the bars themselves, the same however they lie in files."""
        name, (start, end) = table_name(interval), checked_range(start, end)
        snapshot = self._snapshot(name, version)
        if snapshot is None:
            return content_hash([])
        files = files_within(snapshot, [symbol], start, end)
        years = (self._scan_files(name, part) for _, part in files.group_by("partition.year", maintain_order=True))
        chunks = (lazy.select(list(BARS)).filter(within(start, end)).sort("timestamp").collect() for lazy in years)
        return content_hash(chunks)

    # Every other table

    def append(self, table: str, rows: pl.DataFrame, *, partition_by: Sequence[str] = ()) -> int:
        """Append rows in one commit and return the version; creates the table, adds columns it does not have.

        Raises:
            SchemaError: A column's type differs from the table's, or has no place in a table.
        """
        rows = as_storable(rows)
        self._create(table, dict(rows.schema), partition_by)
        return self._transact(table, lambda handle: append_rows(handle, rows))

    def replace(
        self,
        table: str,
        rows: pl.DataFrame,
        *,
        where: Mapping[str, object],
        partition_by: Sequence[str] = (),
    ) -> int:
        """Replace the rows whose columns equal `where` by `rows` in one commit and return the version.

        Raises:
            InputError: A row of `rows` does not match `where` itself.
            SchemaError: A column's type differs from the table's, or has no place in a table.
        """
        return self.update(table, lambda _: rows, where=where, partition_by=partition_by, empty=rows.clear())

    def update(
        self,
        table: str,
        change: Callable[[pl.DataFrame], pl.DataFrame],
        *,
        where: Mapping[str, object],
        empty: pl.DataFrame,
        partition_by: Sequence[str] = (),
    ) -> int:
        """Replace the rows that match `where` by ``change(those rows)``; run again where another writer was first.

        Args:
            table: Name of the table.
            change: Called with the current rows, in no promised order.
            where: Column values that name the rows.
            empty: A frame of the table's columns, for the table that does not exist yet.
            partition_by: Partition columns of a table that does not exist yet.
        """
        self._create(table, dict(as_storable(empty).schema), partition_by)
        return self._transact(table, lambda handle: update_rows(handle, change, dict(where)))

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        """Return a table lazily.

        Raises:
            InputError: There is no such table.
        """
        snapshot = self._snapshot(table, version)
        if snapshot is None:
            raise InputError(f"lake: expected one of the tables {self.tables()}, found {table!r}")
        if not snapshot.files.height:
            return pl.LazyFrame(schema=snapshot.schema)
        return self._scan_files(table, snapshot.files, snapshot.schema)

    def exists(self, table: str) -> bool:
        """Return whether the table has been created."""
        with self._lock:
            return self._reader(table).exists()

    def tables(self) -> list[str]:
        """Return the names of all tables, sorted."""
        return sorted(self.location.tables())

    def sql(self, query: str) -> pl.DataFrame:
        """Run SQL (DuckDB) over the current files: views `klines_1m`, …, others by name with / as _; see lake.query."""
        from lake.query import run

        return run(self, query)

    # What the other modules of the lake build on

    def table(self, name: str) -> Table:
        """Return the table's own handle for writing; callers hold no other."""
        with self._lock:
            return self._writers.setdefault(name, Table(self.location.child(name)))

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        """Return the current files of a table, or those of a version; None where there is no table."""
        return self._snapshot(table, version)

    def now(self) -> datetime:
        """Return the lake's time."""
        return self._clock()

    def _reader(self, name: str) -> Table:
        return self._readers.setdefault(name, Table(self.location.child(name)))

    def _snapshot(self, name: str, version: int | None) -> Snapshot | None:
        with self._lock:
            table = self._reader(name)
            return table.snapshot(version) if table.exists() else None

    def _scan_files(
        self, name: str, files: pl.DataFrame, schema: Mapping[str, pl.DataType] | None = None
    ) -> pl.LazyFrame:
        return self._reader(name).scan(files, schema)

    def _create(self, name: str, schema: Mapping[str, pl.DataType], partition_by: Sequence[str]) -> None:
        with self._lock:
            self.table(name).create(schema, partition_by)

    def _transact(self, name: str, attempt: Callable[[Table], _T]) -> _T:
        def locked() -> _T:
            with self._lock:
                return attempt(self.table(name))

        return until_first(name, locked)
