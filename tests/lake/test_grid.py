"""Filled rows are marked, and are never rows of the lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.calendar import TradingCalendar
from lake.grid import GRID, fill, read_grid
from lake.schema import BARS
from lake.store import Lake

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Maker = Callable[..., pl.DataFrame]


def test_holes_are_filled_and_marked(lake: Lake, make_bars: Maker) -> None:
    """Real bars stay as they are; a hole repeats the last close without volume and counts its age."""
    bars = make_bars(10, START)
    kept = bars.filter(~pl.int_range(pl.len()).is_in([0, 4, 5, 6]))
    lake.write_bars(kept, symbol="BTCUSDT", interval="1m", start=START, end=START + 10 * MINUTE)
    grid = read_grid(lake, "BTCUSDT", "1m", START, START + 10 * MINUTE)
    assert grid.schema == GRID
    assert grid.filter(~pl.col("is_synthetic")).select(list(BARS)).equals(kept)
    assert grid["gap_age"].to_list() == [None, 0, 0, 0, 1, 2, 3, 0, 0, 0]
    hole = grid.slice(4, 3)
    for name in ("open", "high", "low", "close"):
        assert hole[name].to_list() == [bars["close"][3]] * 3
    assert hole["volume"].to_list() == [0.0] * 3
    assert grid["close"][0] is None
    assert lake.read_bars("BTCUSDT", "1m").equals(kept)


def test_only_what_could_be_there_is_filled(make_bars: Maker) -> None:
    """Closed hours are not filled, and a real bar at an odd time stays."""
    calendar = TradingCalendar.from_exchange("XNYS")
    day = datetime(2024, 7, 3, tzinfo=UTC)
    odd = make_bars(1, day + timedelta(hours=3))
    grid = fill(odd, calendar.expected_opens("1m", day, day + timedelta(days=2)))
    assert grid.height == 1 + 210
    assert grid["is_synthetic"].sum() == 210
    assert grid["gap_age"].to_list() == list(range(211))


def test_bars_that_have_not_closed_are_not_filled(root, make_bars: Maker) -> None:
    """The grid ends where the present begins."""
    lake = Lake(root, clock=lambda: START + timedelta(minutes=7, seconds=30))
    lake.write_bars(make_bars(3, START), symbol="BTCUSDT", interval="1m", start=START, end=START + 3 * MINUTE)
    assert read_grid(lake, "BTCUSDT", "1m", START, START + 60 * MINUTE).height == 7


@pytest.mark.parametrize("rows", [0, 5])
def test_a_whole_grid_is_the_bars(make_bars: Maker, rows: int) -> None:
    """Without holes nothing is synthetic."""
    bars = make_bars(rows, START)
    grid = fill(bars, bars["timestamp"])
    assert grid.select(list(BARS)).equals(bars)
    assert not grid["is_synthetic"].any()
