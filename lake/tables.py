"""Named tables under one root: append, replace, scan; a write is one commit, repeated where another was first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TypeVar

import polars as pl

from lake.location import Location
from lake.rows import as_storable
from lake.snapshot import Snapshot
from lake.table import Table
from lake.writes import append_rows, until_first, update_rows
from tasks.errors import InputError

_T = TypeVar("_T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Tables:
    """Delta tables under one root, a folder or object storage.

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
        # Readers and writers hold handles of their own: a writer's stands at the version it computes from.
        self._readers: dict[str, Table] = {}
        self._writers: dict[str, Table] = {}
        self._lock = RLock()

    def append(self, table: str, rows: pl.DataFrame, *, partition_by: Sequence[str] = ()) -> int:
        """Append rows in one commit and return the version; creates the table, adds columns it does not have.

        Raises:
            SchemaError: A column's type differs from the table's, or has no place in a table.
        """
        rows = as_storable(rows)
        return self.transact(table, lambda handle: append_rows(handle, rows), dict(rows.schema), partition_by)

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
        schema = dict(as_storable(empty).schema)
        return self.transact(table, lambda handle: update_rows(handle, change, where), schema, partition_by)

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        """Return a table lazily.

        Raises:
            InputError: There is no such table.
        """
        snapshot = self.snapshot(table, version)
        if snapshot is None:
            raise InputError(f"lake: expected one of the tables {self.tables()}, found {table!r}")
        if not snapshot.files.height:
            return pl.LazyFrame(schema=snapshot.schema)
        return self._reader(table).scan(snapshot.files, snapshot.schema)

    def exists(self, table: str) -> bool:
        """Return whether the table has been created."""
        with self._lock:
            return self._reader(table).exists()

    def tables(self) -> list[str]:
        """Return the names of all tables, sorted."""
        return sorted(self.location.tables())

    def sql(self, query: str) -> pl.DataFrame:
        """Run SQL (DuckDB) over the current files: views `klines_1m`, …, others by name with / as _; see lake.query."""
        from lake.query import run  # duckdb takes a moment to load, and most of the lake does without

        return run(self, query)

    def table(self, name: str) -> Table:
        """Return the handle for writing that this object has of a table."""
        with self._lock:
            return self._writers.setdefault(name, Table(self.location.child(name), self._clock))

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        """Return the current files of a table, or those of a version; None where there is no table."""
        with self._lock:
            reader = self._reader(table)
            return reader.snapshot(version) if reader.exists() else None

    def transact(
        self,
        table: str,
        attempt: Callable[[Table], _T],
        schema: Mapping[str, pl.DataType],
        partition_by: Sequence[str] = (),
    ) -> _T:
        """Return ``attempt(handle)``, which reads, computes and commits; run again while other writers come first.

        Args:
            table: Name of the table; it is created where it does not exist.
            attempt: Raises ConflictError where another writer was first.
            schema: Columns of a table that does not exist yet.
            partition_by: Partition columns of a table that does not exist yet.
        """

        def locked() -> _T:
            with self._lock:
                return attempt(handle)

        with self._lock:
            handle = self.table(table)
            handle.create(schema, partition_by)
        return until_first(table, locked)

    def now(self) -> datetime:
        """Return the lake's time."""
        return self._clock()

    def _reader(self, name: str) -> Table:
        return self._readers.setdefault(name, Table(self.location.child(name), self._clock))
