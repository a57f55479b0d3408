"""Corrections: what a bar said before, what it says now, and when that was seen.

A write that changes bars stages the old and new values in a file beside them, and names that file in the very commit
that changes them. Only then are the staged values copied into the table ``revisions/<interval>``, in a commit that says
up to which version of the bars it has come. Whoever dies in between leaves the rest to the next reader or writer, who
finds in the log what has not been copied yet: the record of a correction is as durable as the correction.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from lake.bars import VALUES, checked_range, table_name, within
from lake.rows import split
from lake.schema import TIMESTAMP
from lake.table import Change, Table
from lake.timeline import interval as interval_named

if TYPE_CHECKING:
    from lake.store import Lake

#: One row a value that changed: `version` is the first version of the bar table that holds the new one.
REVISIONS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "timestamp": TIMESTAMP,
    "column": pl.String(),
    "old": pl.Float64(),
    "new": pl.Float64(),
    "seen_at": TIMESTAMP,
    "version": pl.Int64(),
}

#: Transaction of the revisions table whose number is the version of the bars it has come to.
_HANDED_OVER = "bars"


def changed_values(revised: pl.DataFrame, symbol: str, seen_at: datetime) -> pl.DataFrame:
    """Return the values that differ, in the columns of `REVISIONS` but `version`.

    Args:
        revised: Bars with their old values in columns ``<name>_old``, as `lake.bars.upsert` gives them.
        symbol: Whose bars they are.
        seen_at: When the newer values were seen.
    """
    # One column after the other, not `unpivot`: in which order that gives its rows is not promised.
    told = [
        revised.select("timestamp", column=pl.lit(name), old=f"{name}_old", new=name).filter(
            ~pl.col("old").eq_missing(pl.col("new"))
        )
        for name in VALUES
    ]
    return (
        pl.concat(told)
        .sort("timestamp", maintain_order=True)
        .with_columns(symbol=pl.lit(symbol), seen_at=pl.lit(seen_at, TIMESTAMP))
        .select(name for name in REVISIONS if name != "version")
    )


def revisions(
    lake: Lake, interval: str, symbol: str | None = None, start: datetime | None = None, end: datetime | None = None
) -> pl.DataFrame:
    """Return the corrections of bars that open in ``[start, end)``, oldest first, in the columns of `REVISIONS`."""
    start, end = checked_range(start, end)
    settle(lake, interval)
    name = _table(interval)
    if not lake.exists(name):
        return pl.DataFrame(schema=REVISIONS)
    rows = lake.scan(name).filter(within(start, end))
    if symbol is not None:
        rows = rows.filter(pl.col("symbol") == symbol)
    return rows.sort("version", "symbol", "timestamp", maintain_order=True).collect()


def settle(lake: Lake, interval: str) -> int:
    """Copy what commits of bars have staged and nobody has copied yet; return the number of values."""
    bars = table_name(interval)
    if lake.snapshot(bars) is None or not _pending(lake, interval, after=_copied(lake, interval)):
        return 0
    return lake.transact(_table(interval), lambda table: _copy(lake, interval, table), REVISIONS, ["symbol"])


def uncopied(lake: Lake, interval: str) -> set[str]:
    """Return the staged files that hold corrections nobody has copied yet; they must not be deleted."""
    return {path for _, path in _pending(lake, interval, after=_copied(lake, interval))}


def _copy(lake: Lake, interval: str, table: Table) -> int:
    base = table.snapshot()
    pending = _pending(lake, interval, after=_copied(lake, interval))
    if not pending:
        return 0
    staged = lake.table(table_name(interval)).location
    rows = pl.concat(
        [staged.read_parquet(path).with_columns(version=pl.lit(version, pl.Int64)) for version, path in pending]
    )
    # The version handed over last is the key: of two who copy at once, the second conflicts and finds nothing to do.
    adds = [table.write_file(part, partition) for part, partition in split(rows.select(list(REVISIONS)), base)]
    table.commit(Change(adds, transactions={_HANDED_OVER: pending[-1][0]}), base)
    return rows.height


def _copied(lake: Lake, interval: str) -> int:
    """Return the version of the bars up to which corrections have been copied."""
    version = lake.table(_table(interval)).transaction_version(_HANDED_OVER)
    return -1 if version is None else version


def _pending(lake: Lake, interval: str, *, after: int) -> list[tuple[int, str]]:
    """Return version and staged file of the commits that changed bars, oldest first."""
    log = lake.table(table_name(interval)).log(after)
    return [(commit.version, commit.staged) for commit in log if commit.staged is not None]


def _table(interval: str) -> str:
    return f"revisions/{interval_named(interval).name}"
