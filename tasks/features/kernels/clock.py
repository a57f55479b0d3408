"""The time of day, and what is usual at it."""

from __future__ import annotations

import numpy as np
from numba import njit

_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000
_TURN = 2.0 * np.pi / _DAY_US
_BLOCK = 2048


@njit(cache=True, nogil=True)
def time_of_day(timestamps):
    """Return sine and cosine of the time of day as an angle, one turn a UTC day.

    `timestamps` are microseconds since the epoch. Whole minutes are looked up in a table of the day's.
    """
    minutes = np.arange(1440) * (_MINUTE_US * _TURN)
    sines, cosines = np.sin(minutes), np.cos(minutes)
    sine, cosine = np.empty(timestamps.size), np.empty(timestamps.size)
    for i in range(timestamps.size):
        time = timestamps[i] % _DAY_US
        minute = time // _MINUTE_US
        if minute * _MINUTE_US == time:
            sine[i], cosine[i] = sines[minute], cosines[minute]
        else:
            sine[i], cosine[i] = np.sin(time * _TURN), np.cos(time * _TURN)
    return sine, cosine


@njit(cache=True, nogil=True)
def _add_day(timestamps, values, now, earlier_us, at, total, count):
    """Add to total and count the value `earlier_us` before each `now`; return where the next search starts."""
    for i in range(now.size):
        wanted = now[i] - earlier_us
        while timestamps[at] < wanted:
            at += 1
        if timestamps[at] == wanted and np.isfinite(values[at]):
            total[i] += values[at]
            count[i] += 1.0
    return at


@njit(cache=True, nogil=True)
def usual_at_this_time(timestamps, values, days):
    """Return the mean of the values at the same time on each of the `days` days before, of those that had a bar.

    `timestamps` are microseconds since the epoch, increasing. NaN where no such bar exists or is finite. O(n · days),
    one pointer a day, block by block so that sums stay in the cache. Looks back exactly `days` calendar days.
    """
    out, at = np.empty(values.size), np.zeros(days, np.int64)
    total, count = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, values.size, _BLOCK):
        now = timestamps[start : start + _BLOCK]
        total[:], count[:] = 0.0, 0.0
        for day in range(days):
            at[day] = _add_day(timestamps, values, now, (day + 1) * _DAY_US, at[day], total, count)
        for i in range(now.size):
            out[start + i] = total[i] / count[i] if count[i] > 0.0 else np.nan
    return out


@njit(cache=True, nogil=True)
def seasonal_ratio(timestamps, values, days):
    """Return the value over its `usual_at_this_time`; NaN where that is not positive."""
    usual = usual_at_this_time(timestamps, values, days)
    for i in range(values.size):
        usual[i] = values[i] / usual[i] if usual[i] > 0.0 else np.nan
    return usual
