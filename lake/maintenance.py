"""Keeping tables small and fast: one file a partition, old files gone once nobody can ask for them, and their health.

Nothing here changes what a read returns: not of the newest version, not of any version that is pinned (because a
recorded run read it, or by name), and not of any moment within the time kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from lake.bars import VALUES, month_keys
from lake.damage import reading
from lake.impact import PORTFOLIOS, SWEEPS, recorded_runs
from lake.revisions import settle, uncopied
from lake.rows import equal, partition_key
from lake.schema import TIMESTAMP
from lake.snapshot import Snapshot
from lake.table import Change, Table

if TYPE_CHECKING:
    from lake.store import Lake

#: How long superseded files are kept by default, so that any moment of the last week can be read.
KEEP = timedelta(days=7)

#: How old a file must be that no version names, before it is taken for the remains of a writer that died.
GRACE = timedelta(days=1)

_BARS = "klines/"
PINS = "maintenance/pins"
_PIN_COLUMNS = {"table": pl.String(), "version": pl.Int64(), "reason": pl.String(), "pinned_at": TIMESTAMP}

HEALTH: dict[str, pl.DataType] = {
    "table": pl.String(),
    "version": pl.Int64(),
    "committed_at": TIMESTAMP,
    "rows": pl.Int64(),
    "partitions": pl.Int64(),
    "files": pl.Int64(),
    "size_bytes": pl.Int64(),
    "bytes_per_row": pl.Float64(),
    "stale_bytes": pl.Int64(),
    "pinned_versions": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What maintenance did to one table.

    Attributes:
        table: Its name.
        files_before: Current files before compaction.
        files_after: Current files after it.
        deleted_files: Superseded and orphaned files that were deleted.
        deleted_bytes: Their size.
        lost_pins: Pinned versions that the table cannot read (any more), such as those of a lake that was made anew.
    """

    table: str
    files_before: int
    files_after: int
    deleted_files: int
    deleted_bytes: int
    lost_pins: int


def maintain(lake: Lake, *, keep: timedelta = KEEP, grace: timedelta | None = None) -> list[Upkeep]:
    """Compact every table and delete the files that nobody can ask for any more.

    Args:
        lake: The lake.
        keep: How far back any moment stays readable; pinned versions stay for ever.
        grace: Age of a file that no version names before it is deleted; a day, or `keep` where that is shorter.
    """
    for table in lake.tables():
        if table.startswith(_BARS):
            settle(lake, table.removeprefix(_BARS))
    pins = pinned(lake)
    grace = min(keep, GRACE) if grace is None else grace
    return [_upkeep(lake, table, pins.get(table, set()), keep, grace) for table in lake.tables()]


def pin(lake: Lake, table: str, version: int, reason: str) -> None:
    """Keep a version of a table readable for ever; versions that recorded runs read are pinned already."""
    row = pl.DataFrame([(table, version, reason, lake.now())], schema=_PIN_COLUMNS, orient="row")
    lake.append(PINS, row)


def pinned(lake: Lake) -> dict[str, set[int]]:
    """Return the versions of each table that must stay readable: those pinned by name, and those of recorded runs."""
    found: dict[str, set[int]] = {}
    if lake.exists(PINS):
        for table, version in lake.scan(PINS).select("table", "version").collect().iter_rows():
            found.setdefault(table, set()).add(version)
    for table in filter(lake.exists, (SWEEPS, PORTFOLIOS)):
        runs = recorded_runs(lake, table).drop_nulls(["interval", "lake_version"])
        for interval, version in runs.select("interval", "lake_version").unique().iter_rows():
            found.setdefault(f"{_BARS}{interval}", set()).add(version)
    return found


def compact(lake: Lake, table: str) -> int:
    """Rewrite every partition that has several files into one; return how many partitions were rewritten."""
    snapshot = lake.snapshot(table)
    if snapshot is None:
        return 0
    crowded = [partition for partition, count in _partitions(snapshot) if count > 1]
    return sum(lake.transact(table, partial(_merge, partition=partition), snapshot.schema) for partition in crowded)


def health(lake: Lake) -> pl.DataFrame:
    """Return one row a table in the columns of `HEALTH`; `stale_bytes` lie on disk and belong to older versions."""
    pins = pinned(lake)
    rows = []
    for table in lake.tables():
        snapshot, handle = lake.snapshot(table), lake.table(table)
        assert snapshot is not None  # noqa: S101  # it was listed
        count, size = int(snapshot.files["rows"].sum()), int(snapshot.files["size"].sum())
        on_disk = sum(found.size for found in handle.data_files())
        rows.append(
            (
                table,
                snapshot.version,
                handle.log(after=snapshot.version - 1)[-1].at,
                count,
                len(list(_partitions(snapshot))),
                snapshot.files.height,
                size,
                size / count if count else None,
                on_disk - size,
                len(pins.get(table, ())),
            )
        )
    return pl.DataFrame(rows, schema=HEALTH, orient="row")


def _upkeep(lake: Lake, table: str, pins: Iterable[int], keep: timedelta, grace: timedelta) -> Upkeep:
    before = lake.snapshot(table)
    compact(lake, table)
    after = lake.snapshot(table)
    assert before is not None and after is not None  # noqa: S101, PT018  # it was listed
    handle = lake.table(table)
    held = {version for version in pins if handle.holds(version)}
    kept = _named(handle, held, lake.now() - keep)
    if table.startswith(_BARS):
        kept |= uncopied(lake, table.removeprefix(_BARS))
    deleted = _sweep(handle, kept, lake.now() - grace)
    handle.forget_before(min([*held, handle.version_at(lake.now() - keep)]))
    lost = len(set(pins)) - len(held)
    return Upkeep(table, before.files.height, after.files.height, *deleted, lost_pins=lost)


def _merge(table: Table, partition: Mapping[str, object]) -> int:
    base = table.snapshot()
    files = base.files.filter(equal({f"partition.{name}": value for name, value in partition.items()}))
    if files.height < 2:
        return 0
    with reading(table.location, files):
        rows = table.scan(files, base.schema).collect()
    keys = [partition_key(partition)]
    if set(VALUES) <= set(rows.columns):
        rows = rows.sort("timestamp")
        keys = month_keys(str(partition["symbol"]), rows["timestamp"])
    add = table.write_file(rows, partition)
    table.commit(Change([add], files["path"].to_list(), keys, data_change=False), base)
    return 1


def _partitions(snapshot: Snapshot) -> Iterable[tuple[dict[str, object], int]]:
    names = [f"partition.{name}" for name in snapshot.partition_by]
    if not names:
        return [({}, snapshot.files.height)] if snapshot.files.height else []
    counts = snapshot.files.group_by(names, maintain_order=True).len()
    return [(dict(zip(snapshot.partition_by, row[:-1], strict=True)), row[-1]) for row in counts.iter_rows()]


def _sweep(table: Table, kept: set[str], orphaned_before: datetime) -> tuple[int, int]:
    """Delete the files not among `kept` that are old enough; return how many and their bytes."""
    files, size = 0, 0
    for found in table.data_files():
        if found.path not in kept and found.modified_at <= orphaned_before:
            table.location.delete(found.path)
            files, size = files + 1, size + found.size
    return files, size


def _named(table: Table, pins: Iterable[int], readable_from: datetime) -> set[str]:
    """Return the data files of the pinned versions and of every version that was current since `readable_from`."""
    first = table.version_at(readable_from)
    kept = {path for version in {*pins, first} for path in table.snapshot(version).files["path"]}
    for commit in table.log(after=first):
        kept.update(table.added(commit.version))
    return kept
