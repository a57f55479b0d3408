"""Aggregates of many symbols over time buckets equal a plain group-by of the same bars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.cross_section import cross_section
from lake.store import Lake
from tasks.errors import InputError
from tests.lake.conftest import START

AGGREGATES = [pl.mean("close").alias("avg_close"), pl.sum("volume")]
SYMBOLS = ["BTC/USDT:USDT", "0700.HK", "Ä b%20"]


@pytest.fixture
def filled(lake: Lake, make_bars: Callable[..., pl.DataFrame]) -> Lake:
    """A lake with three symbols whose names need quoting, over a turn of the year and before 1970."""
    for number, symbol in enumerate(SYMBOLS):
        for first in (START - timedelta(hours=5), datetime(1969, 12, 31, 22, 30, tzinfo=UTC)):
            bars = make_bars(400 + number, first, seed=number)
            for _, part in bars.group_by(pl.col("timestamp").dt.year()):
                start, end = part["timestamp"].min(), part["timestamp"].max() + timedelta(minutes=1)  # type: ignore[operator]
                lake.write_bars(part.sort("timestamp"), symbol=symbol, interval="1m", start=start, end=end)
    return lake


@pytest.mark.parametrize("every", ["15m", "1h", "1d"])
def test_cross_section_plain_group_by(filled: Lake, every: str) -> None:
    """Every symbol's buckets are those of a group-by on symbol and truncated time, also before 1970."""
    bucket = pl.col("timestamp").dt.truncate(every).alias("bucket")
    expected = filled.scan_bars("1m").group_by("symbol", bucket).agg(AGGREGATES).sort("symbol", "bucket").collect()
    found = cross_section(filled, "1m", every, AGGREGATES)
    assert found.schema == expected.schema
    assert found.drop("avg_close").equals(expected.drop("avg_close"))
    assert (found["avg_close"] - expected["avg_close"]).abs().max() < 1e-9  # type: ignore[operator]


def test_cross_section_symbols_range_and_version(filled: Lake, make_bars: Callable[..., pl.DataFrame]) -> None:
    """Only the symbols and the range asked for count, in the version asked for."""
    version, end = filled.bars_version("1m"), START + timedelta(hours=1)
    before = cross_section(filled, "1m", "1h", AGGREGATES, symbols=["0700.HK"], start=START, end=end)
    assert before["symbol"].to_list() == ["0700.HK"]
    assert before["bucket"].to_list() == [START]
    filled.write_bars(make_bars(60, START, seed=9), symbol="0700.HK", interval="1m", start=START, end=end)
    again = cross_section(filled, "1m", "1h", AGGREGATES, symbols=["0700.HK"], start=START, end=end, version=version)
    assert again.equals(before)
    assert not cross_section(filled, "1m", "1h", AGGREGATES, symbols=["0700.HK"], start=START, end=end).equals(before)


def test_cross_section_nothing_there(lake: Lake, filled: Lake) -> None:
    """An empty answer has the columns of a full one."""
    full = cross_section(filled, "1m", "1h", AGGREGATES)
    nothing = cross_section(filled, "1m", "1h", AGGREGATES, symbols=["NONE"])
    assert nothing.schema == full.schema
    assert nothing.is_empty()
    assert cross_section(filled, "5m", "1h", AGGREGATES).schema == full.schema


@pytest.mark.parametrize("every", ["1w", "1mo", "7s"])
def test_cross_section_bucket_refused(filled: Lake, every: str) -> None:
    """A bucket that is no interval of up to a day is refused, and so is one symbol in place of a list."""
    with pytest.raises(InputError, match="expected"):
        cross_section(filled, "1m", every, AGGREGATES)
    with pytest.raises(InputError, match="list of symbols"):
        cross_section(filled, "1m", "1h", AGGREGATES, symbols="BTCUSDT")
