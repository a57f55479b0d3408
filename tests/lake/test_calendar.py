"""Calendars say which bars can exist."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.calendar import TradingCalendar
from lake.timeline import INTERVALS
from tasks.errors import InputError

TOKYO = [(time(9), time(11, 30)), (time(12, 30), time(15))]
SHARED = Path(__file__).parents[3] / "shared/data"


def utc(*parts: int) -> datetime:
    """Return an instant in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("interval", INTERVALS)
def test_an_open_market_expects_the_whole_grid(interval: str) -> None:
    """A market that never closes expects just the opens that the timeline names."""
    start, end = utc(2024, 1, 30, 23, 59, 30), utc(2024, 4, 2)
    found = TradingCalendar.always_open().expected_opens(interval, start, end)
    assert found.to_list() == list(INTERVALS[interval].opens(start, end))


def test_new_york_keeps_its_hours() -> None:
    """Half days end early, holidays have no bars, and an hour that holds a minute of trading is expected."""
    calendar = TradingCalendar.from_exchange("XNYS")
    minutes = calendar.expected_opens("1m", utc(2024, 7, 3), utc(2024, 7, 6))
    assert minutes.len() == 210 + 390
    hours = calendar.expected_opens("1h", utc(2024, 7, 3), utc(2024, 7, 5))
    assert hours.to_list() == [utc(2024, 7, 3, hour) for hour in (13, 14, 15, 16)]
    days = calendar.expected_opens("1d", utc(2024, 7, 1), utc(2024, 7, 8))
    assert [day.day for day in days] == [1, 2, 3, 5]
    assert calendar.is_open(utc(2024, 7, 3, 16, 59))
    assert not calendar.is_open(utc(2024, 7, 3, 17))


def test_every_exchange_of_the_vendor_is_known_without_a_warning() -> None:
    """Shanghai's holidays are recorded from 1991 on; pandas' complaints about the library are not a user's affair."""
    with warnings.catch_warnings(action="error"):
        first = [TradingCalendar.parse(f"exchange:{code}").first_day for code in ("XNYS", "XHKG", "XSHG")]
    assert first == [date(1990, 1, 2), date(1990, 1, 2), date(1990, 12, 3)]


def test_lunch_is_closed() -> None:
    """Hong Kong's break has no minutes."""
    opens = TradingCalendar.from_exchange("XHKG").expected_opens("1m", utc(2024, 7, 3), utc(2024, 7, 4))
    assert opens.len() == 150 + 180
    assert utc(2024, 7, 3, 4, 30) not in opens


def test_real_days_are_all_expected() -> None:
    """Fifteen years of a real share's daily bars are exactly the days the exchange calendar expects."""
    path = SHARED / "NVDA.US.1d.parquet"
    if not path.exists():
        pytest.skip("shared data is not beside the project")
    days = pl.read_parquet(path)["timestamp"]
    expected = TradingCalendar.from_exchange("XNYS").expected_opens("1d", days[0], days[-1] + timedelta(days=1))
    assert expected.to_list() == days.to_list()


def test_the_vendors_tables_make_a_calendar() -> None:
    """Trade days, half days and local sessions become UTC opens, across a change of daylight time."""
    days = [date(2024, 3, 8), date(2024, 3, 11), date(2024, 3, 12)]
    calendar = TradingCalendar.from_sessions(days, [days[2]], [(time(9, 30), time(16))], "America/New_York")
    first = [calendar.expected_opens("1m", utc(2024, 3, day), utc(2024, 3, day + 1))[0].hour for day in (8, 11)]
    assert first == [14, 13]
    assert calendar.expected_opens("1m", utc(2024, 3, 12), utc(2024, 3, 13)).len() == 195


@pytest.mark.parametrize(
    "calendar",
    [
        TradingCalendar.always_open(),
        TradingCalendar.from_exchange("XNYS"),
        TradingCalendar.from_sessions([date(2024, 1, 2)], [], TOKYO, "Asia/Tokyo"),
    ],
    ids=["open", "exchange", "sessions"],
)
def test_a_calendar_survives_as_text(calendar: TradingCalendar) -> None:
    """`parse(str(calendar))` is the calendar."""
    assert TradingCalendar.parse(str(calendar)) == calendar


def test_unknown_days_are_an_error_not_a_holiday() -> None:
    """Beyond the days a calendar knows, it refuses to say "closed"."""
    calendar = TradingCalendar.from_sessions([date(2024, 1, 2)], [], [(time(9), time(16))], "Asia/Tokyo")
    with pytest.raises(InputError, match="knows"):
        calendar.expected_opens("1m", utc(2024, 1, 1), utc(2024, 2, 1))
    with pytest.raises(InputError, match="XXXX"):
        TradingCalendar.from_exchange("XXXX")
    with pytest.raises(InputError, match="always_open"):
        TradingCalendar.parse("sometimes")
