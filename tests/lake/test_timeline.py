"""Time as every table speaks it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import timeline
from lake.timeline import INTERVALS, interval, partitions
from tasks.errors import InputError

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


@given(name=st.sampled_from(sorted(INTERVALS)), moment=MOMENTS)
def test_every_moment_lies_in_exactly_one_bar(name: str, moment: datetime) -> None:
    """`floor` is the open of the bar that holds a moment, and `next` that bar's end."""
    step = interval(name)
    opened = step.floor(moment)
    assert opened <= moment < step.next(opened)
    assert step.floor(opened) == step.ceil(opened) == opened


@pytest.mark.parametrize(
    ("name", "moment", "opened"),
    [
        ("1w", datetime(2026, 11, 22, 13, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC)),
        ("1mo", datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("4h", datetime(2026, 11, 22, 13, 59, tzinfo=UTC), datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("5m", datetime(1969, 12, 31, 23, 58, tzinfo=UTC), datetime(1969, 12, 31, 23, 55, tzinfo=UTC)),
    ],
)
def test_bars_open_where_the_field_says(name: str, moment: datetime, opened: datetime) -> None:
    """Weeks open on Monday, months on their first day, and times before 1970 are no special case."""
    assert interval(name).floor(moment) == opened


def test_opens_are_half_open() -> None:
    """The bar that opens at `end` is not wanted, and a start between two opens is rounded up."""
    start, end = datetime(2026, 1, 1, 0, 3, tzinfo=UTC), datetime(2026, 1, 1, 0, 15, tzinfo=UTC)
    assert [opened.minute for opened in interval("5m").opens(start, end)] == [5, 10]


@given(name=st.sampled_from(sorted(INTERVALS)), start=MOMENTS, days=st.integers(1, 9000))
def test_partitions_cover_the_range_once(name: str, start: datetime, days: int) -> None:
    """Neighbouring partitions touch, none is empty, and together they are the range."""
    end = start + timedelta(days=days)
    parts = list(partitions(name, start, end))
    assert parts[0][0] == start
    assert parts[-1][1] == end
    assert all(left[1] == right[0] for left, right in pairwise(parts))
    assert all(begin < stop for begin, stop in parts)


@pytest.mark.parametrize(("name", "count"), [("1m", 24), ("1h", 2), ("1d", 1)])
def test_partitions_hold_a_fair_number_of_bars(name: str, count: int) -> None:
    """Two years are months of minutes, years of hours, one piece of days."""
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert len(list(partitions(name, start, end))) == count


@given(moment=MOMENTS)
def test_milliseconds_are_exact(moment: datetime) -> None:
    """A vendor's milliseconds come back as the same instant."""
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert timeline.from_ms(timeline.to_ms(whole)) == whole


def test_time_zones_are_asked_for_and_converted() -> None:
    """A naive datetime is refused with what to do; another zone becomes UTC; a date is its midnight."""
    with pytest.raises(InputError, match="add tzinfo=UTC"):
        timeline.utc(datetime(2026, 1, 1))
    tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert timeline.utc(tokyo) == timeline.utc(date(2026, 1, 1)) == datetime(2026, 1, 1, tzinfo=UTC)


def test_an_unknown_interval_lists_those_there_are() -> None:
    """`1M` is the vendor's spelling of a month and not ours: the paths would collide where case is folded."""
    with pytest.raises(InputError, match="1mo, found '1M'"):
        interval("1M")
