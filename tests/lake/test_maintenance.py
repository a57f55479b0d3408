"""Maintenance changes how rows lie, never what a read returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from lake.maintenance import compact, health, maintain, pin
from lake.revisions import revisions
from lake.store import Lake
from lake.table import Table
from tasks.errors import DataError
from tests.lake.test_writers import check_two_writers, start_writer

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOTHING = timedelta(0)
Maker = Callable[..., pl.DataFrame]


def write(lake: Lake, bars: pl.DataFrame, symbol: str = "BTCUSDT") -> int:
    """Write one-minute bars and return the version."""
    return lake.write_bars(bars, symbol=symbol, interval="1m", start=START, end=START + 700 * DAY).version


def parts(lake: Lake, bars: pl.DataFrame, size: int = 50) -> None:
    """Write bars in small pieces, each a file of its own."""
    for piece in bars.iter_slices(size):
        write(lake, piece)


def on_disk(root: Path, table: str = "klines/1m") -> int:
    """Return the number of data files that lie in a table's folder."""
    return len([path for path in (root / table).rglob("*.parquet") if "_delta_log" not in path.parts])


def test_compaction_leaves_one_file_a_partition(lake: Lake, make_bars: Maker) -> None:
    """Ten files of two partitions become two, in order, with the same content; doing it again does nothing."""
    bars = pl.concat([make_bars(250, START), make_bars(250, START + 366 * DAY, seed=1)])
    parts(lake, bars)
    content = lake.content_hash("1m", "BTCUSDT")
    assert compact(lake, "klines/1m") == 2
    assert health(lake)["files"].item() == 2
    assert lake.content_hash("1m", "BTCUSDT") == content
    assert lake.read_bars("BTCUSDT", "1m").equals(bars)
    version = lake.bars_version("1m")
    assert compact(lake, "klines/1m") == 0
    assert lake.bars_version("1m") == version


def test_old_files_go_and_pinned_versions_stay(lake: Lake, root: Path, make_bars: Maker) -> None:
    """Files of versions nobody can ask for are deleted; those of pinned and recorded runs' versions never."""
    contents = {}
    for seed in range(6):
        version = write(lake, make_bars(100, START, seed=seed))
        contents[version] = lake.content_hash("1m", "BTCUSDT")
    named, read = list(contents)[1], list(contents)[3]
    pin(lake, "klines/1m", named, "shown to the committee")
    pin(lake, "klines/1m", 999, "of a lake that was made anew")
    run = {"run_id": "r", "symbol": "BTCUSDT", "interval": "1m", "start": START, "end": START, "lake_version": read}
    lake.append("sweeps/runs", pl.DataFrame([run]))
    assert on_disk(root) == 6 + 5
    found = {upkeep.table: upkeep for upkeep in maintain(lake, keep=NOTHING)}
    assert found["klines/1m"].deleted_files == 3 + 5
    assert found["klines/1m"].deleted_bytes > 0
    assert found["klines/1m"].lost_pins == 1
    for version in (named, read, max(contents)):
        assert lake.content_hash("1m", "BTCUSDT", version=version) == contents[version]
    assert revisions(lake, "1m")["timestamp"].n_unique() == 100
    fresh = Lake(root)
    assert fresh.content_hash("1m", "BTCUSDT") == contents[max(contents)]


def test_a_clock_that_was_wrong_once_reorders_nothing(root: Path, make_bars: Maker) -> None:
    """A commit made while the clock stood in 1970 is no older than the one before it: earlier moments stay as known."""
    clock = {"now": datetime.now(UTC) + DAY}
    lake = Lake(root, clock=lambda: clock["now"])
    known = []
    for seed, wrong in enumerate((False, False, False, True, False)):
        right = clock["now"]
        clock["now"] = datetime(1970, 1, 2, tzinfo=UTC) if wrong else right
        lake.write_bars(make_bars(30, START, seed=seed), symbol="BTCUSDT", interval="1m", start=START, end=START + DAY)
        clock["now"] = right
        known.append((right, lake.content_hash("1m", "BTCUSDT")))
        clock["now"] += DAY
    maintain(lake, keep=timedelta(days=4, hours=1))
    for moment, content in (*known[1:3], known[4]):
        assert lake.content_hash("1m", "BTCUSDT", as_of=moment) == content


def test_the_time_kept_stays_readable(root: Path, make_bars: Maker) -> None:
    """Any moment within the time kept reads as it was, and what is older is gone."""
    clock = {"now": datetime.now(UTC) + DAY}
    lake = Lake(root, clock=lambda: clock["now"])
    known = []
    for seed in range(5):
        write(lake, make_bars(100, START, seed=seed))
        known.append((clock["now"], lake.content_hash("1m", "BTCUSDT")))
        clock["now"] += DAY
    maintain(lake, keep=timedelta(days=2, hours=1))
    for moment, content in known[2:]:
        assert lake.content_hash("1m", "BTCUSDT", as_of=moment) == content
    with pytest.raises(DataError, match="An older version than maintenance keeps is gone for good"):
        lake.content_hash("1m", "BTCUSDT", as_of=known[0][0])


def test_the_remains_of_a_dead_writer_are_deleted_in_time(lake: Lake, root: Path, make_bars: Maker) -> None:
    """A file that no commit names is left to its writer for a day, then deleted."""
    write(lake, make_bars(10, START))
    orphan = root / "klines/1m/symbol=BTCUSDT/year=2024/part-dead.parquet"
    orphan.write_bytes(b"half a file")
    maintain(lake)
    assert orphan.exists()
    old = (datetime.now(UTC) - 2 * DAY).timestamp()
    os.utime(orphan, (old, old))
    maintain(lake)
    assert not orphan.exists()
    assert lake.read_bars("BTCUSDT", "1m").height == 10


def test_uncopied_corrections_survive(lake: Lake, make_bars: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dies before it has recorded a correction leaves it to maintenance, which records, then deletes."""
    bars = make_bars(10, START)
    write(lake, bars)
    with monkeypatch.context() as patch:
        patch.setattr("lake.store.settle", lambda *_: 0)
        write(lake, bars.slice(3, 1).with_columns(close=7.0))
    assert not lake.exists("revisions/1m")
    maintain(lake, keep=NOTHING)
    assert revisions(lake, "1m")["new"].to_list() == [7.0]


def test_compaction_beside_writers(root: Path) -> None:
    """Compacting while two processes write and revise the same partition loses nothing."""
    writers = [start_writer(root, writer, 6) for writer in (0, 1)]
    lake = Lake(root)
    while any(process.poll() is None for process in writers):
        if lake.exists("klines/1m"):
            maintain(lake, grace=DAY)
    assert [process.wait() for process in writers] == [0, 0]
    for process in writers:
        process.communicate()
    check_two_writers(lake, 6)


def test_compaction_meets_a_writer_of_any_month_of_its_year(
    lake: Lake, root: Path, make_bars: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars that land in the middle of the year while it is compacted become part of the one file too."""
    january, february, march = (make_bars(10, START.replace(month=month)) for month in (1, 2, 3))
    write(lake, january)
    write(lake, march)
    real, late = Table.write_file, [february]

    def beaten(table: Table, *arguments: object) -> object:
        if late:
            write(Lake(root), late.pop())
        return real(table, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "write_file", beaten)
    assert compact(lake, "klines/1m") == 1
    found = lake.snapshot("klines/1m")
    assert found is not None
    assert found.files["rows"].to_list() == [30]


def test_a_conflicting_compaction_leaves_no_file(
    lake: Lake, root: Path, make_bars: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction that another writer beats deletes what it wrote and is tried again."""
    parts(lake, make_bars(100, START))
    real, beaten = DeltaTable.create_write_transaction, [True, True]

    def commit(table: DeltaTable, *arguments: object, **options: object) -> None:
        if beaten:
            beaten.pop()
            raise CommitFailedError("another writer was first")
        real(table, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
    assert compact(lake, "klines/1m") == 1
    assert on_disk(root) == 2 + 1


def test_health_tells_what_lies_there(lake: Lake, make_bars: Maker) -> None:
    """Rows, files, bytes and pins of every table; stale bytes are those of older versions."""
    write(lake, make_bars(1000, START))
    assert health(lake).select("table", "rows", "partitions", "files", "stale_bytes").rows() == [
        ("klines/1m", 1000, 1, 1, 0)
    ]
    write(lake, make_bars(1000, START, seed=1))
    pin(lake, "klines/1m", 1, "first")
    row = health(lake).row(by_predicate=pl.col("table") == "klines/1m", named=True)
    assert row["stale_bytes"] > 0
    assert row["pinned_versions"] == 1
    assert row["bytes_per_row"] == row["size_bytes"] / 1000


def test_the_log_is_cut_where_nothing_needs_it(root: Path, make_bars: Maker) -> None:
    """Entries before the checkpoint that the oldest readable version needs are deleted; what stays readable reads."""
    clock = {"now": datetime.now(UTC) + DAY}
    lake, known = Lake(root, clock=lambda: clock["now"]), {}
    bars = make_bars(60, START)
    for minute in range(60):
        version = write(lake, bars.slice(minute, 1))
        known[version] = (clock["now"], lake.content_hash("1m", "BTCUSDT"))
        clock["now"] += timedelta(hours=1)
    pin(lake, "klines/1m", 30, "half of it")
    maintain(lake, keep=timedelta(hours=15))
    entries = sorted(path.name for path in (root / "klines/1m/_delta_log").glob("*.json"))
    assert int(entries[0][:20]) in range(10, 30)
    fresh = Lake(root, clock=lambda: clock["now"])
    for version in (30, *range(47, 61)):
        moment, content = known[version]
        assert fresh.content_hash("1m", "BTCUSDT", version=version) == content
        assert version == 30 or fresh.content_hash("1m", "BTCUSDT", as_of=moment) == content
    write(fresh, make_bars(1, START + DAY))
    assert lake.read_bars("BTCUSDT", "1m").height == 61
    write(fresh, bars.head(1).with_columns(close=7.0))
    assert revisions(lake, "1m")["new"].to_list() == [7.0]
