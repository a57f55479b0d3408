"""Time as every table speaks it: UTC, half-open ranges, bars named by their open.

A bar whose open is ``t`` may be used only from ``t + interval`` on. Months are calendar months; every other interval
has a fixed length. Weeks open on Monday 00:00 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tasks.errors import InputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
#: The last millisecond since 1970 that a table and a `datetime` can hold: the end of the year 9999.
LATEST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of a bar.

    Attributes:
        name: Our spelling: ``1m 3m 5m 15m 30m 1h 2h 4h 1d 1w 1mo``.
        step: Its fixed length, None for a calendar month.
    """

    name: str
    step: timedelta | None

    def floor(self, moment: datetime) -> datetime:
        """Return the open of the bar that holds `moment`."""
        moment = utc(moment)
        if self.step is None:
            return datetime(moment.year, moment.month, 1, tzinfo=UTC)
        origin = _MONDAY if self.name == "1w" else EPOCH
        return moment - (moment - origin) % self.step

    def ceil(self, moment: datetime) -> datetime:
        """Return the first open at or after `moment`."""
        floor = self.floor(moment)
        return floor if floor == utc(moment) else self.next(floor)

    def next(self, opened: datetime) -> datetime:
        """Return the open of the bar after the one that opens at `opened` (equal to that bar's close time)."""
        if self.step is None:
            return datetime(opened.year + opened.month // 12, opened.month % 12 + 1, 1, tzinfo=UTC)
        return opened + self.step

    def opens(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield every open in ``[start, end)``, as if the market never closed."""
        moment, end = self.ceil(start), utc(end)
        while moment < end:
            yield moment
            moment = self.next(moment)

    def closed_end(self, now: datetime) -> datetime:
        """Return the exclusive upper bound of the opens of bars that are closed at `now`."""
        return self.floor(now)


INTERVALS: dict[str, Interval] = {
    name: Interval(name, step)
    for name, step in {
        "1m": timedelta(minutes=1),
        "3m": timedelta(minutes=3),
        "5m": timedelta(minutes=5),
        "15m": timedelta(minutes=15),
        "30m": timedelta(minutes=30),
        "1h": timedelta(hours=1),
        "2h": timedelta(hours=2),
        "4h": timedelta(hours=4),
        "1d": timedelta(days=1),
        "1w": timedelta(weeks=1),
        "1mo": None,
    }.items()
}


def interval(name: str) -> Interval:
    """Return the interval of that name.

    Raises:
        InputError: The name is not one of ours; the message lists them.
    """
    found = INTERVALS.get(name)
    if found is None:
        raise InputError(f"interval: expected one of {' '.join(INTERVALS)}, found {name!r}")
    return found


def utc(moment: datetime | date) -> datetime:
    """Return `moment` as an aware UTC datetime; a date is its midnight.

    Raises:
        InputError: The datetime carries no time zone, so that nobody can tell which instant is meant.
    """
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if moment.tzinfo is None:
        raise InputError(f"time: expected a time zone, found the naive {moment.isoformat()}; add tzinfo=UTC")
    return moment.astimezone(UTC)


def to_ms(moment: datetime) -> int:
    """Return milliseconds since the epoch, exactly."""
    return (utc(moment) - EPOCH) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """Return the UTC datetime of milliseconds since the epoch, exactly."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def months(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield ``[start, end)`` cut at calendar months, as half-open ranges."""
    month = INTERVALS["1mo"]
    moment, end = utc(start), utc(end)
    while moment < end:
        cut = min(month.next(month.floor(moment)), end)
        yield moment, cut
        moment = cut


def partitions(name: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield ``[start, end)`` cut into the pieces that are fetched and judged as one.

    UTC months below one hour, years below one day, decades from there: between 2,000 and 45,000 bars each.

    Args:
        name: The interval's spelling.
        start: First instant.
        end: First instant after the range.
    """
    step = interval(name).step
    if step is not None and step < timedelta(hours=1):
        yield from months(start, end)
        return
    years = 1 if step is not None and step < timedelta(days=1) else 10
    moment, end = utc(start), utc(end)
    while moment < end:
        cut = min(datetime(moment.year - moment.year % years + years, 1, 1, tzinfo=UTC), end)
        yield moment, cut
        moment = cut
