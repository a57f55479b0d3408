"""Bars as engine arrays: holes, calendars, years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.calendar import TradingCalendar
from tasks.errors import InputError
from tasks.sweep.ask import ask_about
from tasks.sweep.market import find_tradable, prepare_bars
from tasks.sweep.metrics import annual_return, chained, drawdowns, sharpe_ratio, sortino_ratio
from tasks.sweep.request import SweepRequest
from tasks.sweep.windows import WindowPlan


def days(*dates: str) -> pl.Series:
    """Return midnights UTC."""
    return pl.Series([datetime.fromisoformat(day).replace(tzinfo=UTC) for day in dates], dtype=pl.Datetime("us", "UTC"))


def test_a_weekend_is_no_hole_but_a_missing_session_is() -> None:
    """On a calendar, the bar after a missing promised bar is untradable; one after a weekend is not."""
    promised = days("2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10")
    there = days("2024-01-04", "2024-01-05", "2024-01-08", "2024-01-10")
    stamps = there.dt.replace_time_zone(None).to_numpy()
    assert find_tradable(stamps, "1d", promised).tolist() == [False, True, True, False]
    assert find_tradable(stamps, "1d").tolist() == [False, True, False, False]


def test_a_bar_outside_the_calendar_is_not_traded() -> None:
    """Neither the stray bar nor the one that follows it."""
    promised = days("2024-01-04", "2024-01-05", "2024-01-08")
    there = days("2024-01-04", "2024-01-05", "2024-01-06", "2024-01-08", "2024-01-09")
    stamps = there.dt.replace_time_zone(None).to_numpy()
    assert find_tradable(stamps, "1d", promised).tolist() == [False, True, False, False, False]


def test_months_follow_each_other_whatever_their_length() -> None:
    """Calendar months are neighbours though their lengths differ."""
    stamps = days("2024-01-01", "2024-02-01", "2024-03-01", "2024-05-01").dt.replace_time_zone(None).to_numpy()
    assert find_tradable(stamps, "1mo").tolist() == [False, True, True, False]


def test_a_year_has_the_bars_its_calendar_promises(bars) -> None:
    """A market that never closes has 525,600 minutes; a calendar counts its own; an explicit number wins."""
    frame = bars(30)
    assert prepare_bars(frame, "1m").periods_per_year == 525_600
    half = frame["timestamp"].gather_every(2)
    assert prepare_bars(frame, "1m", expected=half).periods_per_year == pytest.approx(525_600 / 2)
    assert prepare_bars(frame, "1m", periods_per_year=252.0).periods_per_year == 252.0


@pytest.mark.parametrize(("days", "interval", "most"), [(1, "5m", 78), (5, "5m", 78), (30, "1h", 7), (400, "1d", 1)])
def test_a_short_sample_has_the_year_of_its_exchange(days: int, interval: str, most: int) -> None:
    """A day or a week of an exchange is annualised by its year of 252 days, not as if it never closed."""
    start, calendar = datetime(2023, 3, 6, tzinfo=UTC), TradingCalendar.from_exchange("XNYS")
    opens = calendar.expected_opens(interval, start, start + timedelta(days=days))
    prices = {name: pl.lit(100.0) for name in ("open", "high", "low", "close", "volume")}
    request = SweepRequest(symbol="A.US", interval=interval, strategy="momentum", calendar="exchange:XNYS")
    plan = {"windows": WindowPlan(count=1, purge=0)}
    question = ask_about(opens.to_frame().with_columns(**prices), request.model_copy(update=plan))
    assert question.bars.periods_per_year == pytest.approx(251 * most, rel=0.01)


def test_bars_that_cannot_be_traded_are_refused(bars) -> None:
    """Unsorted bars, too few, and prices of zero or NaN are errors, not results."""
    frame = bars(30)
    zero = frame.with_columns(low=pl.lit(0.0))
    for bad in (frame.reverse(), frame.head(3), zero, frame.with_columns(close=pl.lit(float("nan")))):
        with pytest.raises(InputError):
            prepare_bars(bad, "1m")


def test_ratios_of_returns_that_never_vary_are_nan() -> None:
    """Zero deviation gives NaN, not infinity."""
    assert np.isnan(sharpe_ratio(np.zeros(10), 252))
    assert np.isnan(sharpe_ratio(np.full(10, 0.01), 252))
    assert np.isnan(sortino_ratio(np.full(10, 0.01), 252))


def test_drawdown_starts_from_the_initial_capital() -> None:
    """A first losing bar is already a drawdown."""
    assert drawdowns(np.array([0.9, 1.2, 0.6])).tolist() == pytest.approx([-0.1, 0.0, -0.5])


def test_what_was_lost_stays_lost() -> None:
    """Windows after the loss of the account have nothing to trade with: the curve ends at what is owed."""
    parts = [np.array([0.1, -1.2, 3.0]), np.array([0.5, -2.0])]
    assert chained(parts).tolist() == [0.1, -1.2, 0.0, 0.0, 0.0]
    assert chained([np.array([0.1]), np.array([-0.99])]).tolist() == [0.1, -0.99]


def test_annual_return_compounds() -> None:
    """Two half-years of the same growth give its square."""
    assert annual_return(0.21, 500, 250) == pytest.approx(0.1)
    assert annual_return(-1.0, 10, 250) == -1.0
