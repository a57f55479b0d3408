"""Writes as optimistic transactions: read the newest version, compute, commit; start over where another was first."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import polars as pl

from lake.bars import month_keys, upsert
from lake.damage import reading
from lake.revisions import changed_values
from lake.rows import as_storable, equal, matching, partition_key, replacement, split
from lake.schema import BARS
from lake.snapshot import Snapshot
from lake.table import Change, Table
from tasks.errors import ConflictError, InputError

_T = TypeVar("_T")

#: Attempts of one write before it gives up with a ConflictError: 60 tries of up to half a second outlast any queue of
#: writers that the platform starts.
_ATTEMPTS = 60
_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What a write came to.

    Attributes:
        version: The table's version that holds these bars.
        rows_written: Bars handed in.
        rows_new: Bars the lake did not have.
        rows_revised: Bars the lake had with other values.
        changed: Whether anything was committed.
    """

    version: int
    rows_written: int
    rows_new: int
    rows_revised: int
    changed: bool


def until_first(name: str, attempt: Callable[[], _T]) -> _T:
    """Return what `attempt` returns, called again while it raises ConflictError.

    Raises:
        ConflictError: Other writers were first in every attempt. Nothing was written.
    """
    for number in range(1, _ATTEMPTS):
        try:
            return attempt()
        except ConflictError:
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.005 * 2**number)))  # noqa: S311  # jitter, no secret
    try:
        return attempt()
    except ConflictError as error:
        raise ConflictError(f"lake: {name}: other writers were first in all {_ATTEMPTS} attempts: {error}") from error


def write_bars(table: Table, symbol: str, bars: pl.DataFrame, seen_at: datetime) -> WriteReceipt:
    """Commit checked bars of one symbol over those it has; called again after a conflict.

    Values that change are staged first and named in the commit, so that no crash loses them; see `lake.revisions`.
    """
    base = table.snapshot()
    change, new, revised = Change(), 0, []
    for year, chunk in _by_year(bars):
        files = _overlapping(base, symbol, year, chunk)
        with reading(table.location, files):
            old = table.scan(files).select(list(BARS)).sort("timestamp").collect() if files.height else chunk.clear()
        result = upsert(old, chunk)
        if result.changed:
            rows = result.bars.select(pl.lit(symbol).alias("symbol"), pl.lit(year, pl.Int32).alias("year"), *BARS)
            change.adds.append(table.write_file(rows, {"symbol": symbol, "year": year}))
            change.removes += files["path"].to_list()
            change.reads += month_keys(symbol, result.bars["timestamp"])
            new += result.new
            revised.append(result.revised)
    if not change.adds:
        return WriteReceipt(base.version, bars.height, 0, 0, changed=False)
    corrections = pl.concat(revised)
    if corrections.height:
        change.staged = table.stage(changed_values(corrections, symbol, seen_at))
    version = table.commit(change, base)
    return WriteReceipt(version, bars.height, new, corrections.height, changed=True)


def _by_year(bars: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the bars of each year without copying them; they are sorted."""
    if bars.is_empty():
        return
    times, first = bars["timestamp"], 0
    for year in range(times[0].year, times[-1].year + 1):
        stop = int(times.search_sorted(datetime(year + 1, 1, 1, tzinfo=UTC)))
        if stop > first:
            yield year, bars.slice(first, stop - first)
        first = stop


def _overlapping(base: Snapshot, symbol: str, year: int, chunk: pl.DataFrame) -> pl.DataFrame:
    first, last = chunk["timestamp"][0], chunk["timestamp"][-1]
    keep = (pl.col("partition.symbol") == symbol) & (pl.col("partition.year") == year)
    return base.files.filter(keep & (pl.col("first") <= last) & (pl.col("last") >= first))


def append_rows(table: Table, rows: pl.DataFrame) -> int:
    """Commit storable rows beside those of the table and return the version."""
    base = table.snapshot()
    rows = matching(table, base, rows)
    if not rows.height:
        return base.version
    change = Change(adds=[table.write_file(part, partition) for part, partition in split(rows, base)])
    return table.commit(change, base)


def update_rows(table: Table, change: Callable[[pl.DataFrame], pl.DataFrame], where: Mapping[str, object]) -> int:
    """Commit ``change(rows)`` in place of the rows that match `where`; called again after a conflict.

    Raises:
        InputError: A row of the result does not match `where`.
    """
    base = table.snapshot()
    key = partition_key({name: value for name, value in where.items() if name in base.partition_by})
    touched, kept, rows = replacement(table, base, where)
    new = as_storable(change(rows))
    new = matching(table, base, new)
    wrong = new.filter(~equal(where))
    if wrong.height:
        found = wrong.row(0, named=True)
        raise InputError(f"lake: expected rows where {dict(where)}, found {wrong.height} others, such as {found}")
    if new.equals(rows) or not (touched.height or new.height):
        return base.version
    whole = pl.concat([kept, new], how="diagonal_relaxed") if kept.height else new
    adds = [table.write_file(part, partition) for part, partition in split(whole, base)]
    return table.commit(Change(adds, touched["path"].to_list(), [key]), base)
