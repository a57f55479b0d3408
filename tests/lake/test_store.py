"""Bars go in once, whole, and come out as they went in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import deltalake
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.bars import upsert
from lake.schema import BARS
from lake.store import Lake
from tasks.errors import DataError, InputError, SchemaError

START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Maker = Callable[..., pl.DataFrame]


def write(lake: Lake, bars: pl.DataFrame, symbol: str = "BTCUSDT"):
    """Write one-minute bars into a range that holds them all."""
    return lake.write_bars(bars, symbol=symbol, interval="1m", start=START - timedelta(days=400), end=END)


def test_what_goes_in_comes_out(lake: Lake, make_bars: Maker) -> None:
    """Bars across a year's end are read back bit by bit, in order."""
    bars = make_bars(300, START - 100 * MINUTE)
    receipt = write(lake, bars)
    assert (receipt.rows_written, receipt.rows_new, receipt.rows_revised, receipt.changed) == (300, 300, 0, True)
    assert lake.read_bars("BTCUSDT", "1m").equals(bars)
    assert lake.bars_version("1m") == receipt.version


def test_writing_the_same_again_commits_nothing(lake: Lake, make_bars: Maker) -> None:
    """Identical content leaves the version as it is."""
    first = write(lake, make_bars(300))
    again = write(lake, make_bars(300).slice(50, 100))
    assert not again.changed
    assert again.version == first.version == lake.bars_version("1m")


def test_new_bars_win_and_others_stay(lake: Lake, make_bars: Maker) -> None:
    """An upsert replaces bars of its own timestamps and no other; the receipt counts both kinds."""
    old, new = make_bars(300), make_bars(200, START + 200 * MINUTE, seed=1)
    write(lake, old)
    receipt = write(lake, new)
    assert (receipt.rows_new, receipt.rows_revised) == (100, 100)
    assert lake.read_bars("BTCUSDT", "1m").equals(pl.concat([old.head(200), new]))


@pytest.mark.parametrize("symbol", ["BTC/USDT:USDT", "AAPL.US", "BU-2609", "A%B C#ü~", "a=b&c'd"])
def test_any_symbol_has_a_partition(lake: Lake, make_bars: Maker, symbol: str) -> None:
    """Symbols with signs that paths or URLs treat specially are written, revised, read and queried like any other."""
    write(lake, make_bars(10), symbol)
    write(lake, make_bars(20, seed=1), symbol)
    assert lake.symbols("1m") == [symbol]
    assert lake.read_bars(symbol, "1m").equals(make_bars(20, seed=1))
    assert lake.sql("SELECT DISTINCT symbol FROM klines").item() == symbol


def test_other_delta_readers_see_the_same(lake: Lake, root: Path, make_bars: Maker) -> None:
    """The table is plain Delta: deltalake's own reader and polars' agree with ours after inserts and revisions."""
    write(lake, make_bars(100), "BTC/USDT:USDT")
    write(lake, make_bars(120, seed=1), "BTC/USDT:USDT")
    table = deltalake.DeltaTable(root / "klines/1m")
    ours = lake.scan_bars("1m").collect()
    theirs = pl.DataFrame(table.to_pyarrow_table()).select("symbol", *BARS).sort("timestamp")
    assert theirs.equals(ours)
    assert pl.scan_delta(root / "klines/1m").select("symbol", *BARS).sort("timestamp").collect().equals(ours)


def test_a_range_reads_only_its_files(lake: Lake, make_bars: Maker) -> None:
    """The plan of a scan names just the files whose bounds meet the range and the symbols."""
    write(lake, make_bars(100), "BTCUSDT")
    write(lake, make_bars(100, START + timedelta(days=30)), "BTCUSDT")
    write(lake, make_bars(100), "ETHUSDT")
    scan = lake.scan_bars("1m", ["BTCUSDT"], START + timedelta(days=30), START + timedelta(days=31))
    assert scan.collect().height == 100
    assert scan.explain().count("part-") == 1


def test_reading_where_nothing_is(lake: Lake, make_bars: Maker) -> None:
    """No table, no symbol or an empty range give empty bars with the right columns, not an error."""
    assert lake.read_bars("BTCUSDT", "1m").schema == BARS
    assert lake.bars_version("1m") is None
    assert lake.symbols("1m") == []
    write(lake, make_bars(10))
    assert lake.read_bars("ETHUSDT", "1m").is_empty()
    assert lake.read_bars("BTCUSDT", "1m", START + timedelta(days=1), START + timedelta(days=2)).is_empty()


@pytest.mark.parametrize("below", ["", "lake"])
def test_a_file_in_the_place_of_the_lake_is_no_empty_lake(tmp_path: Path, below: str) -> None:
    """Whoever names a file, or a folder below one, is told so by every way of reading."""
    (tmp_path / "bars.csv").touch()
    lake = Lake(tmp_path / "bars.csv" / below)
    for read in (lambda: lake.symbols("1m"), lambda: lake.exists("sweeps/runs"), lake.tables):
        with pytest.raises(
            InputError, match=r"lake: expected a folder that you may read, found .*bars\.csv.*: Not a d"
        ):
            read()


@pytest.mark.parametrize("root", ["", " ", "s3://", "s3:///", "ftp://host/lake", "C://lake"])
def test_a_place_that_can_be_no_lake_is_refused(root: str) -> None:
    """An address without a bucket ended the process, one of an unknown kind was an empty lake."""
    with pytest.raises(InputError, match="lake: expected a folder or an address like s3://bucket/prefix"):
        Lake(root)


def test_bars_have_a_symbol(lake: Lake, make_bars: Maker) -> None:
    """A partition without a name would be found by nobody."""
    with pytest.raises(InputError, match="symbol: expected a name, found ''"):
        write(lake, make_bars(3, START), symbol="")


def test_a_version_below_zero_is_refused(lake: Lake, make_bars: Maker) -> None:
    """It is told as one that is not kept."""
    write(lake, make_bars(3, START))
    with pytest.raises(InputError, match="found -1"):
        lake.read_bars("BTCUSDT", "1m", version=-1)


def test_a_version_can_be_read_again(lake: Lake, make_bars: Maker) -> None:
    """Reads and hashes of an older version are those of the day; an unknown version is an error."""
    first = write(lake, make_bars(100))
    before = lake.content_hash("1m", "BTCUSDT")
    write(lake, make_bars(100, seed=1))
    assert lake.content_hash("1m", "BTCUSDT") != before
    assert lake.content_hash("1m", "BTCUSDT", version=first.version) == before
    assert lake.read_bars("BTCUSDT", "1m", version=first.version).equals(make_bars(100))
    with pytest.raises(InputError, match="version"):
        lake.read_bars("BTCUSDT", "1m", version=99)


def test_the_hash_knows_values_not_files(lake: Lake, tmp_path: Path, make_bars: Maker) -> None:
    """Bars written in one go and in pieces, in any order, hash alike; null and zero do not."""
    other = Lake(tmp_path / "other")
    write(lake, make_bars(300))
    for start in (200, 0, 100):
        write(other, make_bars(300).slice(start, 100))
    assert lake.content_hash("1m", "BTCUSDT") == other.content_hash("1m", "BTCUSDT")
    write(other, make_bars(300).with_columns(quote_volume=0.0))
    assert lake.content_hash("1m", "BTCUSDT") != other.content_hash("1m", "BTCUSDT")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda bars: bars.reverse(), "in order"),
        (lambda bars: pl.concat([bars, bars.tail(1)]), "duplicates"),
        (lambda bars: bars.with_columns(timestamp=pl.lit(None, BARS["timestamp"])), "in every row"),
        (lambda bars: bars.with_columns(pl.col("timestamp").dt.offset_by("3y")), r"in \["),
        (lambda bars: bars.drop("close"), "missing"),
    ],
)
def test_bad_bars_leave_the_lake_alone(
    lake: Lake, make_bars: Maker, spoil: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    """Rows that cannot be bars are refused with a message that says what was expected."""
    write(lake, make_bars(10))
    with pytest.raises(DataError, match=message):
        write(lake, spoil(make_bars(10, seed=1)))
    assert lake.read_bars("BTCUSDT", "1m").equals(make_bars(10))


_MINUTES = st.lists(st.tuples(st.integers(0, 40), st.floats(-5, 5)), max_size=30)


@settings(max_examples=60)
@given(old=_MINUTES, new=_MINUTES)
def test_an_upsert_is_a_dictionary_update(old: list[tuple[int, float]], new: list[tuple[int, float]]) -> None:
    """`upsert` is `dict.update` keyed by timestamp, for any two sets of bars."""

    def frame(rows: dict[int, float]) -> pl.DataFrame:
        times = pl.Series("timestamp", [START + key * MINUTE for key in sorted(rows)], BARS["timestamp"])
        values = {name: [rows[key] for key in sorted(rows)] for name in BARS if name != "timestamp"}
        return pl.DataFrame({"timestamp": times, **values}, schema=BARS)

    before, update = dict(old), dict(new)
    result = upsert(frame(before), frame(update))
    assert result.bars.equals(frame(before | update))
    assert result.new == len(update.keys() - before.keys())
    assert result.revised.height == sum(before[key] != update[key] for key in update.keys() & before.keys())


def test_append_replace_and_scan(lake: Lake) -> None:
    """Tables grow, take new columns, and have just the named rows replaced."""
    rows = pl.DataFrame({"run": ["a", "b"], "n": pl.Series([1, 2], dtype=pl.UInt32)})
    lake.append("sweeps/runs", rows, partition_by=["run"])
    lake.append("sweeps/runs", pl.DataFrame({"run": ["c"], "n": [3], "note": ["late"]}))
    lake.replace("sweeps/runs", pl.DataFrame({"run": ["b", "b"], "n": [7, 8]}), where={"run": "b"})
    found = lake.scan("sweeps/runs").sort("run", "n").collect()
    assert found.rows() == [("a", 1, None), ("b", 7, None), ("b", 8, None), ("c", 3, "late")]
    assert lake.tables() == ["sweeps/runs"]
    assert lake.scan("sweeps/runs", version=1).collect().height == 2


def test_replace_is_idempotent_and_keeps_to_its_rows(lake: Lake) -> None:
    """The same replacement commits nothing; rows that do not match `where` are refused."""
    rows = pl.DataFrame({"run": ["a"], "n": [1]})
    version = lake.replace("sweeps/runs", rows, where={"run": "a"})
    assert lake.replace("sweeps/runs", rows, where={"run": "a"}) == version
    with pytest.raises(InputError, match="run"):
        lake.replace("sweeps/runs", rows, where={"run": "b"})
    lake.replace("sweeps/runs", rows.clear(), where={"run": "a"})
    assert lake.scan("sweeps/runs").collect().is_empty()


def test_tables_refuse_what_they_cannot_hold(lake: Lake) -> None:
    """Times without a zone, durations and clashing types are refused by name."""
    with pytest.raises(SchemaError, match="'at'"):
        lake.append("t", pl.DataFrame({"at": [datetime(2024, 1, 1)]}))  # naive on purpose
    with pytest.raises(SchemaError, match="'wait'"):
        lake.append("t", pl.DataFrame({"wait": [MINUTE]}))
    lake.append("t", pl.DataFrame({"n": [1]}))
    with pytest.raises(SchemaError, match="'n'"):
        lake.append("t", pl.DataFrame({"n": ["x"]}))
    with pytest.raises(InputError, match="table name"):
        lake.append("../t", pl.DataFrame({"n": [1]}))


def test_a_scan_of_no_table_names_those_there_are(lake: Lake) -> None:
    """A typo in a table's name is answered with the names that exist."""
    lake.append("quality/verdicts", pl.DataFrame({"n": [1]}))
    with pytest.raises(InputError, match="quality/verdicts"):
        lake.scan("quality/verdict")
