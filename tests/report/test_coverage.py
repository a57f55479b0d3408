"""Completeness of bars against a calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from lake.calendar import TradingCalendar
from tasks.report.coverage import coverage, near_gaps
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


@pytest.mark.parametrize(("hole", "near"), [(600, 1), (611, 1), (612, 0), (560, 1), (559, 0), (570, 1), (585, 0)])
def test_trades_near_a_gap_are_told(sweep: tuple[SweepResult, pl.DataFrame], hole: int, near: int) -> None:
    """A trade from bar 570 to bar 601 is near a gap at either end, within ten bars and no further."""
    result, bars = sweep
    ends = {"entry_timestamp": bars["timestamp"][570], "exit_timestamp": bars["timestamp"][601]}
    trade = result.trades.head(1).with_columns(
        sample=pl.lit("out"), pnl=pl.lit(12.5), **{k: pl.lit(v) for k, v in ends.items()}
    )
    holed = bars.with_row_index().filter(pl.col("index") != hole).drop("index")
    found = near_gaps(trade, result.equity, holed, bars["timestamp"])
    assert (found["trades_near_a_gap"], found["profit_near_a_gap"]) == (near, 12.5 * near)


def test_the_return_near_a_gap_is_told(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Of an account that grows by 1 % a bar, the twenty bars around a missing one made 1.01 to the twentieth."""
    result, bars = sweep
    holed = bars.with_row_index().filter(pl.col("index") != 600).drop("index")
    rows = holed.height
    curve = result.equity.head(1).select(pl.all().exclude("timestamp", "equity", "sample"), sample=pl.lit("out"))
    steps = holed.select("timestamp", equity=1.01 ** pl.int_range(1, rows + 1))
    found = near_gaps(result.trades, steps.join(curve, how="cross"), holed, bars["timestamp"])
    assert found["return_near_a_gap"] == pytest.approx(1.01**20 - 1)
    assert found["share_near_a_gap"] == pytest.approx(20 / rows)


@pytest.mark.parametrize(
    ("before", "near", "share"),
    [
        (1.0, 1.001, 1.0),
        (1.0006, 1.0, 0.0),
        (1.0002, 0.995, -0.2043),
        (1.00000001, 0.9999, "none: the total return is about zero"),
        (1.0, 0.0, "none: the account was lost"),
    ],
)
def test_the_share_near_a_gap_is_told(
    sweep: tuple[SweepResult, pl.DataFrame], before: float, near: float, share: float | str
) -> None:
    """All, nothing, or less than nothing of the return was made near gaps; of no return there is no share."""
    result, bars = sweep
    holed = bars.with_row_index().filter(pl.col("index") != 600).drop("index")
    curve = result.equity.head(1).select(pl.all().exclude("timestamp", "equity", "sample"), sample=pl.lit("out"))
    grown = pl.when(pl.int_range(pl.len()).is_between(590, 609)).then(near).otherwise(before)
    steps = holed.select("timestamp", equity=grown.cum_prod())
    found = near_gaps(result.trades, steps.join(curve, how="cross"), holed, bars["timestamp"])["share_near_a_gap"]
    assert found == (share if isinstance(share, str) else pytest.approx(share, abs=1e-3))


def test_no_gap_or_no_trade_is_nothing_to_tell(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Complete bars, and a run without trades, get no such statement."""
    result, bars = sweep
    assert near_gaps(result.trades, result.equity, bars, bars["timestamp"]) == {}
    assert near_gaps(result.trades.clear(), result.equity, bars.tail(9), bars["timestamp"]) == {}
