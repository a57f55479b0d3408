"""Completeness of bars against a calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from lake.calendar import TradingCalendar
from tasks.report.coverage import coverage
from tasks.sweep.result import SweepResult


def test_nothing_is_missing_where_nothing_is(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A whole month of a market that never closes misses no bar."""
    found = coverage(sweep[1], "15m", TradingCalendar.always_open())
    assert (found["bars"], found["expected_bars"], found["missing_bars"]) == (2976, 2976, 0)
    assert "longest_gap_bars" not in found


def test_the_longest_gap_is_found(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Of two gaps, the longer one is told, with its first missing bar."""
    bars = sweep[1].with_row_index()
    holed = bars.filter(~pl.col("index").is_in([10, 11, 500, 501, 502, 2000])).drop("index")
    found = coverage(holed, "15m", TradingCalendar.always_open())
    assert found["missing_bars"] == 6
    assert found["longest_gap_bars"] == 3
    assert found["longest_gap_began"] == bars["timestamp"][500]


def test_a_holiday_is_no_gap() -> None:
    """Daily bars over New Year miss nothing on the exchange's calendar."""
    days = [datetime(2014, 12, day, tzinfo=UTC) for day in (30, 31)] + [datetime(2015, 1, 2, tzinfo=UTC)]
    found = coverage(pl.DataFrame({"timestamp": days}), "1d", TradingCalendar.from_exchange("XNYS"))
    assert (found["expected_bars"], found["missing_bars"]) == (3, 0)


def test_no_bars_are_said_to_be_none() -> None:
    """An empty span has no first bar to tell."""
    assert coverage(pl.DataFrame({"timestamp": []}), "1d", TradingCalendar.always_open()) == {"bars": 0}
