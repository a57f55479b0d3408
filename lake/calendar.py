"""When a market is open: which bars may be expected, and which can never exist.

A calendar is plain data: sessions as pairs of UTC instants, each of one trading day. It crosses process borders as text
(`TradingCalendar.parse` and `str`), and asking it for days outside its own is an error, not "closed".
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from lake.schema import TIMESTAMP
from lake.timeline import EPOCH, utc
from lake.timeline import interval as interval_named
from tasks.errors import InputError

_MICROSECOND = timedelta(microseconds=1)
_DAILY = timedelta(days=1)
#: First day that is known of an exchange, or later where its holidays are recorded no further back (Shanghai: 1991).
_SINCE = date(1990, 1, 1)


@dataclass(frozen=True)
class TradingCalendar:
    """Sessions of a market, or none at all for a market that never closes.

    Attributes:
        name: ``always_open``, ``exchange:XNYS``, or JSON; `parse` takes it back.
        first_day: First day it knows, None for a market that never closes.
        last_day: Last day it knows.
        sessions: ``(trading day, open, close)`` in order; close is exclusive. A day with a lunch break has two.
    """

    name: str = "always_open"
    first_day: date | None = None
    last_day: date | None = None
    sessions: tuple[tuple[date, datetime, datetime], ...] = field(default=(), repr=False)

    @classmethod
    def always_open(cls) -> TradingCalendar:
        """Return the calendar of a market that never closes, such as crypto."""
        return cls()

    @classmethod
    def from_sessions(
        cls,
        trade_days: Sequence[date],
        half_days: Sequence[date],
        sessions: Sequence[tuple[time, time]],
        time_zone: str,
    ) -> TradingCalendar:
        """Return the calendar of the vendor's own tables.

        Args:
            trade_days: Days with trading, half days included or not; nothing is known beyond the first and last.
            half_days: Days that end with the first session, or in the middle of the only one.
            sessions: Local open and close of each session of a full day.
            time_zone: IANA name, such as ``America/New_York``.
        """
        days = sorted({*trade_days, *half_days})
        if not days:
            raise InputError("calendar: expected at least one trading day, found none")
        plan = {
            "trade_days": [day.isoformat() for day in days],
            "half_days": sorted(day.isoformat() for day in set(half_days)),
            "sessions": [[opened.isoformat(), closed.isoformat()] for opened, closed in sessions],
            "time_zone": time_zone,
        }
        return _from_plan(json.dumps(plan))

    @classmethod
    def from_exchange(cls, code: str) -> TradingCalendar:
        """Return the calendar that `exchange_calendars` knows under an ISO 10383 code, such as ``XNYS``.

        Raises:
            InputError: It knows no such exchange.
        """
        return _from_exchange(code)

    @classmethod
    def parse(cls, text: str) -> TradingCalendar:
        """Return the calendar that ``str(calendar)`` named.

        Raises:
            InputError: The text names no calendar.
        """
        if text == "always_open":
            return cls.always_open()
        if text.startswith("exchange:"):
            return _from_exchange(text.removeprefix("exchange:"))
        if text.startswith("{"):
            return _from_plan(text)
        raise InputError(f"calendar: expected always_open, exchange:<code> or JSON, found {text!r}")

    def __str__(self) -> str:
        return self.name

    @property
    def never_closes(self) -> bool:
        """Whether every bar may be expected."""
        return self.first_day is None

    def is_open(self, moment: datetime) -> bool:
        """Return whether the market trades at `moment`."""
        if self.never_closes:
            return True
        moment = utc(moment)
        self._know(moment, moment + _MICROSECOND)
        opened, closed = self._bounds
        place = int(np.searchsorted(opened, _microseconds(moment), side="right")) - 1
        return place >= 0 and _microseconds(moment) < int(closed[place])

    def expected_opens(self, interval: str, start: datetime, end: datetime) -> pl.Series:
        """Return the opens in ``[start, end)`` of the bars that hold any trading, as `Datetime("us", "UTC")`.

        Bars shorter than a day lie on the UTC grid of `lake.timeline`; a daily bar opens at midnight UTC of its trading
        day; a weekly or monthly bar is expected where one of its days is.

        Raises:
            InputError: The range reaches beyond the days that the calendar knows.
        """
        step, start, end = interval_named(interval), utc(start), utc(end)
        if end <= start:
            return pl.Series("timestamp", [], TIMESTAMP)
        if self.never_closes:
            return _grid(step.name, start, end)
        self._know(start, end)
        if step.step is None or step.step >= _DAILY:
            days = {step.floor(utc(day)) for day, _, _ in self.sessions}
            opens = pl.Series("timestamp", sorted(days), TIMESTAMP)
        else:
            opens = self._intraday(int(step.step / _MICROSECOND), _microseconds(start), _microseconds(end))
        return opens.filter((opens >= start) & (opens < end))

    def bar_of(self, interval: str, opens: pl.Series) -> pl.Series:
        """Return for each moment the open of the `interval` bar that holds it, null where no trading day does.

        A daily or longer bar holds the whole trading day, also where that begins on the evening before its date.
        """
        step = interval_named(interval)
        if self.never_closes or (step.step is not None and step.step < _DAILY):
            return opens.dt.truncate(step.name).alias("timestamp")
        moments = opens.dt.timestamp("us").to_numpy()
        opened, closed = self._bounds
        place = np.searchsorted(opened, moments, side="right") - 1
        inside = (place >= 0) & (moments < closed[place])
        days = pl.Series([utc(day) for day, _, _ in self.sessions], dtype=TIMESTAMP)
        found = days.gather(np.maximum(place, 0)).dt.truncate(step.name)
        return pl.select(pl.when(pl.Series(inside)).then(found)).to_series().alias("timestamp")

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        opened = np.array([_microseconds(opened) for _, opened, _ in self.sessions], np.int64)
        closed = np.array([_microseconds(closed) for _, _, closed in self.sessions], np.int64)
        return opened, closed

    def _intraday(self, step: int, start: int, end: int) -> pl.Series:
        opened, closed = self._bounds
        keep = (closed > start) & (opened < end + step)
        first, last = opened[keep] // step, -(-closed[keep] // step)
        counts = last - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        slots = np.unique((np.repeat(first, counts) + offsets) * step)
        return pl.Series("timestamp", slots).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")

    def _know(self, start: datetime, end: datetime) -> None:
        assert self.first_day is not None and self.last_day is not None  # noqa: S101, PT018  # both or neither
        # A session may begin on the day before its trading day and end on the one after.
        first, last = utc(self.first_day) - _DAILY, utc(self.last_day) + 2 * _DAILY
        if start < first or end > last:
            raise InputError(
                f"calendar: expected a range within {self.first_day} to {self.last_day}, the days this calendar knows, "
                f"found [{start}, {end}); fetch the missing trading days or narrow the range"
            )


def _grid(interval: str, start: datetime, end: datetime) -> pl.Series:
    step = interval_named(interval)
    if step.step is None:
        return pl.Series("timestamp", list(step.opens(start, end)), TIMESTAMP)
    slots = np.arange(_microseconds(step.ceil(start)), _microseconds(end), int(step.step / _MICROSECOND))
    return pl.Series("timestamp", slots).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


@lru_cache(maxsize=32)
def _from_plan(text: str) -> TradingCalendar:
    plan: Mapping[str, list] = json.loads(text)
    days = [date.fromisoformat(day) for day in plan["trade_days"]]
    half = {date.fromisoformat(day) for day in plan["half_days"]}
    times = [(time.fromisoformat(opened), time.fromisoformat(closed)) for opened, closed in plan["sessions"]]
    zone = ZoneInfo(str(plan["time_zone"]))
    rows = [row for day in days for row in _day(day, times, zone, half=day in half)]
    return TradingCalendar(text, days[0], days[-1], tuple(rows))


def _day(
    day: date, sessions: Iterable[tuple[time, time]], zone: ZoneInfo, *, half: bool
) -> list[tuple[date, datetime, datetime]]:
    """Return a day's sessions in UTC; one that runs past midnight begins on the evening before its trading day."""
    rows = []
    for opened, closed in sessions:
        begin = datetime.combine(day if opened < closed else day - _DAILY, opened, zone)
        rows.append((day, begin.astimezone(UTC), datetime.combine(day, closed, zone).astimezone(UTC)))
    if not half:
        return rows
    if len(rows) > 1:
        return rows[:1]
    _, begin, end = rows[0]
    return [(day, begin, begin + (end - begin) / 2)]


@lru_cache(maxsize=8)
def _from_exchange(code: str) -> TradingCalendar:
    import exchange_calendars  # half a second, and only some markets need it
    from pandas.errors import Pandas4Warning  # type: ignore[missing-module-attribute]  # the stubs lack it

    try:
        with warnings.catch_warnings(action="ignore", category=Pandas4Warning):  # its own use of pandas, not ours
            earliest = exchange_calendars.get_calendar(code).bound_min()
            since = _SINCE if earliest is None else max(_SINCE, earliest.date())
            known = exchange_calendars.get_calendar(code, start=str(since))
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise InputError(f"calendar: expected an exchange that exchange_calendars knows, found {code!r}") from error
    rows: list[tuple[date, datetime, datetime]] = []
    schedule = pl.from_pandas(known.schedule.reset_index(names="day"))
    for day, opened, pause, resumed, closed in schedule.select(
        "day", "open", "break_start", "break_end", "close"
    ).iter_rows():
        if pause is None:
            rows.append((day.date(), utc(opened), utc(closed)))
        else:
            rows += [(day.date(), utc(opened), utc(pause)), (day.date(), utc(resumed), utc(closed))]
    return TradingCalendar(f"exchange:{code}", rows[0][0], rows[-1][0], tuple(rows))
