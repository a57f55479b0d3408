"""Two writers at once, and writers that are killed: nothing lost, nothing doubled, always readable."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from lake.revisions import revisions
from lake.schema import BARS
from lake.snapshot import Snapshot
from lake.store import Lake
from lake.table import Change, Table
from lake.writes import until_first
from tasks.errors import ConflictError

Maker = Callable[..., pl.DataFrame]
WRITER = Path(__file__).with_name("writer.py")
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=300)
ROUNDS = int(os.environ.get("PROOF_ROUNDS", "40"))  # `make proof-writers` runs 200


def start_writer(root: str | Path, writer: int, rounds: int, environment: Mapping[str, str] | None = None):
    """Start a writer process."""
    command = [sys.executable, str(WRITER), str(root), str(writer), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})


def check_two_writers(lake: Lake, rounds: int) -> None:
    """Check that both writers' minutes are there once each, right, and the whole history of the shared bar."""
    bars = lake.read_bars("BTCUSDT", "1m")
    opens = bars["timestamp"]
    assert opens.n_unique() == bars.height == 4 * rounds + 1
    minutes = ((opens - START).dt.total_minutes()).to_list()
    assert minutes == list(range(4 * rounds + 1))
    truth = [10.0 * minute + ((minute - 1) % 4 >= 2) for minute in minutes[1:]]
    assert bars["close"][1:].to_list() == truth
    steps = revisions(lake, "1m").filter(column="close").sort("version")
    assert steps["old"][1:].to_list() == steps["new"][:-1].to_list(), "each change starts where the last one ended"
    assert steps.height == 2 * rounds - 1
    assert steps["new"][-1] == bars["close"][0]


def test_two_processes_on_one_partition(root: Path) -> None:
    """Rounds of two processes on one partition lose, double and blend nothing, corrections included."""
    writers = [start_writer(root, writer, ROUNDS) for writer in (0, 1)]
    for process in writers:
        process.communicate(timeout=200)
        assert process.returncode == 0
    check_two_writers(Lake(root), ROUNDS)


def test_threads_share_a_lake(lake: Lake) -> None:
    """One lake object serves threads of one process."""

    def write(symbol: str) -> None:
        for day in range(5):
            opens = [START + timedelta(days=day, minutes=minute) for minute in range(10)]
            values = {name: [1.0] * 10 for name in BARS if name != "timestamp"}
            bars = pl.DataFrame({"timestamp": opens, **values}, schema=BARS)
            lake.write_bars(bars, symbol=symbol, interval="1m", start=START, end=END)
            assert lake.read_bars(symbol, "1m").height == 10 * (day + 1)

    names = [f"S{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, names))
    assert lake.symbols("1m") == names


def test_replacements_of_one_partition_do_not_mix(root: Path) -> None:
    """Read-modify-write of one row by two lakes at once counts every step."""
    lakes = [Lake(root), Lake(root)]
    empty = pl.DataFrame(schema={"name": pl.String, "n": pl.Int64})

    def count(lake: Lake) -> None:
        for _ in range(10):
            lake.update("counters", step, where={"name": "a"}, empty=empty)

    def step(rows: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame({"name": ["a"], "n": [(rows["n"].sum() if rows.height else 0) + 1]})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count, lakes))
    assert lakes[0].scan("counters").collect().rows() == [("a", 20)]


@pytest.mark.parametrize(
    ("mine", "theirs", "attempts"),
    [
        pytest.param((1,), (2,), 1, id="another month of the year"),
        pytest.param((2,), (2,), 2, id="the same month"),
        pytest.param((1, 3), (2,), 2, id="a month between two of a file"),
    ],
)
def test_writers_of_one_month_meet(
    root: Path,
    make_bars: Maker,
    monkeypatch: pytest.MonkeyPatch,
    mine: tuple[int, ...],
    theirs: tuple[int, ...],
    attempts: int,
) -> None:
    """A commit that lands first makes a write start over where files could overlap, and only there; no bar is lost."""
    bars = {month: make_bars(10, START.replace(month=month)) for month in (1, 2, 3)}
    Lake(root).write_bars(bars[1].head(1), symbol="B", interval="1m", start=START, end=END)
    real, tried = Table.commit, list[str]()

    def beaten(table: Table, change: Change, base: Snapshot) -> int:
        tried.append(table.location.uri)
        if len(tried) == 1:
            first = pl.concat([bars[month] for month in theirs])
            with monkeypatch.context() as patch:
                patch.setattr(Table, "commit", real)
                Lake(root).write_bars(first, symbol="A", interval="1m", start=START, end=END)
        return real(table, change, base)

    monkeypatch.setattr(Table, "commit", beaten)
    rows = pl.concat([bars[month].with_columns(close=7.0) for month in mine])
    Lake(root).write_bars(rows, symbol="A", interval="1m", start=START, end=END)
    assert sum(uri.endswith("klines/1m") for uri in tried) == attempts
    assert Lake(root).read_bars("A", "1m").height == 10 * len({*mine, *theirs})


def test_a_conflict_that_never_ends_is_reported(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """When other writers are first in every attempt, ConflictError says so and nothing is written."""

    def beaten(*_: object, **__: object) -> None:
        raise CommitFailedError("another writer was first")

    lake.append("t", pl.DataFrame({"n": [1]}))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", beaten)
    monkeypatch.setattr("lake.writes.time.sleep", lambda _: None)
    with pytest.raises(ConflictError, match="all 60 attempts"):
        lake.append("t", pl.DataFrame({"n": [2]}))
    assert lake.scan("t").collect().height == 1
    assert len(list(Path(lake.location.uri, "t").glob("*.parquet"))) == 1
    assert until_first("t", lambda: 5) == 5


def test_an_answer_lost_on_the_way_is_no_conflict(
    lake: Lake, make_bars: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a commit lands but its answer reads as a conflict, nothing that was committed is deleted."""
    real = DeltaTable.create_write_transaction

    def lost(table: DeltaTable, *arguments: object, **options: object) -> None:
        real(table, *arguments, **options)  # type: ignore[arg-type]
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lost)
    receipt = lake.write_bars(make_bars(10, START), symbol="A", interval="1m", start=START, end=END)
    assert receipt.changed
    assert receipt.version == lake.bars_version("1m") == 1
    assert lake.read_bars("A", "1m").equals(make_bars(10, START))


def test_a_killed_writer_leaves_a_readable_table(root: Path) -> None:
    """Killed with no warning at random moments, the table holds whole rounds, at most one more than were reported."""
    moments, done = random.Random(3), 0  # seeded, no secret
    for _ in range(3):
        process = start_writer(root, 0, 20)
        assert process.stdout is not None
        for _ in range(moments.randrange(1, 12)):
            done = max(done, int(process.stdout.readline()) + 1)
        process.kill()
        rest = [int(line) + 1 for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        done = max([done, *rest])
        bars = Lake(root).read_bars("BTCUSDT", "1m")
        assert bars["timestamp"].is_sorted()
        assert (bars.height - 1) // 2 in (done, done + 1)
        assert (bars.height - 1) % 2 == 0
    lake = Lake(root)
    process = start_writer(root, 0, 20)
    process.communicate(timeout=60)
    assert lake.read_bars("BTCUSDT", "1m").height == 41
    close = revisions(lake, "1m").filter(column="close")
    assert close["old"][1:].to_list() == close["new"][:-1].to_list()
