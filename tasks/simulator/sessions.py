"""When each market trades: days, half days and hours, from the exchanges' own calendars."""

from __future__ import annotations

import warnings
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tasks.simulator.intervals import DAY_MS, MINUTE_MS

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

_CODES = {"US": "XNYS", "HK": "XHKG", "CN": "XSHG"}

#: What `/v1/market/trading-sessions` answers: local time as hhmm; a session without a number is the regular one.
TRADING_SESSIONS: dict[str, list[dict[str, int]]] = {
    "US": [
        {"begin_time": 400, "end_time": 930, "trade_session": 1},
        {"begin_time": 930, "end_time": 1600},
        {"begin_time": 1600, "end_time": 2000, "trade_session": 2},
    ],
    "HK": [{"begin_time": 930, "end_time": 1200}, {"begin_time": 1300, "end_time": 1600}],
    "CN": [{"begin_time": 930, "end_time": 1130}, {"begin_time": 1300, "end_time": 1500}],
}


@lru_cache(maxsize=8)
def _calendar(market: str) -> ExchangeCalendar:
    # Imported here: it costs half a second, and a crypto market needs none of it.
    from exchange_calendars import get_calendar
    from pandas.errors import Pandas4Warning  # type: ignore[missing-module-attribute]  # the stubs lack it

    with warnings.catch_warnings(action="ignore", category=Pandas4Warning):  # its own use of pandas, not ours
        return get_calendar(_CODES[market], start="1998-01-02")


def trade_days(market: str, first: date, last: date) -> tuple[list[date], list[date]]:
    """Return the full days and the half days on which `market` trades, from `first` to `last`, both included."""
    calendar = _calendar(market)
    half = {stamp.date() for stamp in calendar.early_closes}
    days = [day for day in (stamp.date() for stamp in calendar.sessions) if first <= day <= last]
    return [day for day in days if day not in half], [day for day in days if day in half]


def minutes(market: str, start_ms: int, end_ms: int) -> np.ndarray:
    """Return the opens of every minute of regular trading in ``[start_ms, end_ms)``, ascending."""
    if market == "GLOBAL":
        return np.arange(-(-start_ms // MINUTE_MS) * MINUTE_MS, end_ms, MINUTE_MS, dtype=np.int64)
    spans = [(opened, closed) for opened, closed in _spans(market) if closed > start_ms and opened < end_ms]
    pieces = [np.arange(opened, closed, MINUTE_MS, dtype=np.int64) for opened, closed in spans]
    every = np.concatenate([np.empty(0, np.int64), *pieces])
    return every[(every >= start_ms) & (every < end_ms)]


def days(market: str, start_ms: int, end_ms: int) -> np.ndarray:
    """Return midnight UTC of every trading day in ``[start_ms, end_ms)``, ascending."""
    if market == "GLOBAL":
        return np.arange(-(-start_ms // DAY_MS) * DAY_MS, end_ms, DAY_MS, dtype=np.int64)
    every = _calendar(market).sessions.to_numpy().astype("datetime64[ms]").astype(np.int64)
    return every[(every >= start_ms) & (every < end_ms)]


@lru_cache(maxsize=8)
def _spans(market: str) -> list[tuple[int, int]]:
    """Return the opening and closing instants of each stretch of trading, lunch breaks cut out."""
    calendar = _calendar(market)
    spans: list[tuple[int, int]] = []
    for opened, rest, resumed, closed in zip(
        calendar.opens_nanos,
        calendar.break_starts_nanos,
        calendar.break_ends_nanos,
        calendar.closes_nanos,
        strict=True,
    ):
        edges = [opened, closed] if rest < 0 else [opened, rest, resumed, closed]  # no break is NaT, a negative number
        whole = [int(edge) // 1_000_000 for edge in edges]
        spans.extend(zip(whole[::2], whole[1::2], strict=True))
    return spans
