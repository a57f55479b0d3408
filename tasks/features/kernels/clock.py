"""The time of day, and what is usual at it."""

from __future__ import annotations

import numpy as np
from numba import njit

_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000
_TURN = 2.0 * np.pi / _DAY_US


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
def usual_at_this_time(timestamps, values, days):
    """Return the mean of the values at the same time on each of the `days` days before, of those that had a bar.

    `timestamps` are microseconds since the epoch, increasing. NaN where no such bar exists or is finite. O(n · days),
    one pointer a day. Looks back exactly `days` calendar days.
    """
    total, count = np.zeros(values.size), np.zeros(values.size, np.int64)
    for day in range(1, days + 1):
        at = 0
        for i in range(values.size):
            wanted = timestamps[i] - day * _DAY_US
            while timestamps[at] < wanted:
                at += 1
            if timestamps[at] == wanted and np.isfinite(values[at]):
                total[i] += values[at]
                count[i] += 1
    for i in range(values.size):
        total[i] = total[i] / count[i] if count[i] > 0 else np.nan
    return total


@njit(cache=True, nogil=True)
def seasonal_ratio(timestamps, values, days):
    """Return the value over its `usual_at_this_time`; NaN where that is not positive."""
    usual = usual_at_this_time(timestamps, values, days)
    for i in range(values.size):
        usual[i] = values[i] / usual[i] if usual[i] > 0.0 else np.nan
    return usual
