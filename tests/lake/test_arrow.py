"""Readers of pyarrow and pandas get the same bars as those of polars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.arrow import dataset, read_arrow, read_pandas
from lake.schema import BARS
from lake.store import Lake
from lake.table import ROW_GROUP_ROWS
from tasks.errors import InputError

START = datetime(2024, 12, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROWS = 3 * ROW_GROUP_ROWS


@pytest.fixture
def filled(lake: Lake, make_bars: Callable[..., pl.DataFrame]) -> Lake:
    """A lake whose bars fill several row groups of two files."""
    bars = make_bars(ROWS, START)
    lake.write_bars(bars, symbol="BTCUSDT", interval="1m", start=START, end=START + ROWS * MINUTE)
    return lake


@pytest.mark.parametrize(
    ("first", "last"), [(None, None), (0, ROWS), (5, 6), (ROW_GROUP_ROWS - 1, ROW_GROUP_ROWS + 1), (ROWS, ROWS + 9)]
)
@pytest.mark.parametrize("columns", [None, ["close"], ["volume", "timestamp"]])
def test_every_reader_reads_the_same(
    filled: Lake, first: int | None, last: int | None, columns: list[str] | None
) -> None:
    """Any range and any columns are the same in polars, pyarrow and pandas, across row groups and files."""
    start, end = (None if side is None else START + side * MINUTE for side in (first, last))
    expected = filled.read_bars("BTCUSDT", "1m", start, end, columns=columns)
    found = read_arrow(filled, "BTCUSDT", "1m", start, end, columns=columns)
    assert pl.DataFrame(found).equals(expected)
    frame = read_pandas(filled, "BTCUSDT", "1m", start, end, columns=columns)
    assert list(frame.columns) == list(columns or BARS)
    assert pl.from_pandas(frame).cast({name: BARS[name] for name in frame}).equals(expected)  # type: ignore[arg-type]


def test_versions_and_absent_symbols(filled: Lake) -> None:
    """An older version reads as it was, an unknown symbol is empty, an unknown column is refused."""
    assert read_arrow(filled, "BTCUSDT", "1m", version=0).num_rows == 0
    assert str(read_pandas(filled, "ETHUSDT", "1m")["timestamp"].dtype) == "datetime64[us, UTC]"
    with pytest.raises(InputError, match="closing"):
        read_arrow(filled, "BTCUSDT", "1m", columns=["closing"])


def test_a_dataset_has_every_bar(filled: Lake) -> None:
    """Other tools can take the current files as one pyarrow dataset."""
    assert dataset(filled, "1m").count_rows() == ROWS
    with pytest.raises(InputError, match="1h"):
        dataset(filled, "1h")
