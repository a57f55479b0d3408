"""The lake: bars and every other table, each a Delta table under one root.

A table is read at one version, so that a reader never sees half a write; a write is one commit, so that a crash leaves
the table as it was. Two writers of one partition never lose or double a row: the later one reads again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from lake.bars import BAR_TABLE, checked, checked_range, files_within, table_name, within
from lake.damage import reading
from lake.digest import content_hash
from lake.revisions import settle
from lake.schema import BARS
from lake.snapshot import Snapshot
from lake.tables import Tables
from lake.timeline import utc
from lake.writes import WriteReceipt, write_bars
from tasks.errors import InputError

__all__ = ["Lake", "WriteReceipt"]


class Lake(Tables):
    """Bars and other tables under one root, a folder or object storage.

    Reads of bars take `version`, a version of the interval's table, or `as_of`, an instant: the bars as they were known
    then. By default they see the newest commit.
    """

    def write_bars(
        self, bars: pl.DataFrame, *, symbol: str, interval: str, start: datetime, end: datetime
    ) -> WriteReceipt:
        """Write bars into ``[start, end)`` in one atomic commit; identical content commits nothing.

        New bars win over old ones of the same timestamp, other old bars stay; what changed is in `lake.revisions`.

        Raises:
            DataError: Rows outside the range, or null, duplicated or unsorted timestamps. Nothing was written.
            ConflictError: Other writers were first in every attempt. Nothing was written.
            InputError: The symbol has no name.
        """
        if not symbol.strip():
            raise InputError(f"symbol: expected a name, found {symbol!r}")
        bars = checked(bars, *checked_range(start, end))
        receipt = self.transact(
            table_name(interval),
            lambda table: write_bars(table, symbol, bars, self.now()),
            BAR_TABLE,
            ("symbol", "year"),
        )
        if receipt.rows_revised:
            settle(self, interval)
        return receipt

    def scan_bars(
        self,
        interval: str,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        version: int | None = None,
        as_of: datetime | None = None,
    ) -> pl.LazyFrame:
        """Return bars lazily: `symbol` and `BARS`, each symbol's in order; columns and filters are pushed down."""
        if isinstance(symbols, str):
            raise InputError(f"symbols: expected a list of symbols, found the text {symbols!r}; write [{symbols!r}]")
        return self._scan(interval, symbols, *checked_range(start, end), version, as_of)[0]

    def read_bars(
        self,
        symbol: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        as_of: datetime | None = None,
    ) -> pl.DataFrame:
        """Return one symbol's bars in order: all of `BARS`, or the named columns."""
        lazy, files = self._scan(interval, [symbol], *checked_range(start, end), version, as_of)
        with reading(self._reader(table_name(interval)).location, files):
            return lazy.select(list(BARS if columns is None else columns)).collect()

    def bars_version(self, interval: str, *, as_of: datetime | None = None) -> int | None:
        """Return the version of the interval's table, or the one current at `as_of`; None where there is none."""
        snapshot = self._bars_snapshot(interval, None, as_of)
        return None if snapshot is None else snapshot.version

    def symbols(self, interval: str) -> list[str]:
        """Return the symbols that have bars of the interval, sorted."""
        snapshot = self._bars_snapshot(interval, None, None)
        return [] if snapshot is None else sorted(snapshot.files["partition.symbol"].unique())

    def content_hash(
        self,
        interval: str,
        symbol: str,
        start: datetime | None = None,
        end: datetime | None = None,
        version: int | None = None,
        *,
        as_of: datetime | None = None,
    ) -> str:
        """Return a hash of the bars themselves, the same however they lie in files; one year is in memory at a time."""
        start, end = checked_range(start, end)
        snapshot = self._bars_snapshot(interval, version, as_of)
        if snapshot is None:
            return content_hash([])
        files = files_within(snapshot, [symbol], start, end)
        reader = self._reader(table_name(interval))
        years = (reader.scan(part) for _, part in files.group_by("partition.year", maintain_order=True))
        with reading(reader.location, files):
            return content_hash(
                lazy.select(list(BARS)).filter(within(start, end)).sort("timestamp").collect() for lazy in years
            )

    def _scan(
        self,
        interval: str,
        symbols: Sequence[str] | None,
        start: datetime | None,
        end: datetime | None,
        version: int | None,
        as_of: datetime | None,
    ) -> tuple[pl.LazyFrame, pl.DataFrame]:
        """Return bars lazily, and the files they lie in."""
        snapshot = self._bars_snapshot(interval, version, as_of)
        files = pl.DataFrame() if snapshot is None else files_within(snapshot, symbols, start, end)
        if not files.height:
            return pl.LazyFrame(schema={"symbol": pl.String(), **BARS}), files
        lazy = self._reader(table_name(interval)).scan(files)
        return lazy.select("symbol", *BARS).filter(within(start, end)), files

    def _bars_snapshot(self, interval: str, version: int | None, as_of: datetime | None) -> Snapshot | None:
        name = table_name(interval)
        if as_of is None:
            return self.snapshot(name, version)
        if version is not None:
            raise InputError(f"lake: expected version or as_of, found both, {version} and {as_of}")
        with self._lock:
            reader = self._reader(name)
            return reader.snapshot(reader.version_at(utc(as_of))) if reader.exists() else None
