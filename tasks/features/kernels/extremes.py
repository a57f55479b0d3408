"""Rolling minimum and maximum, and what is measured from them: stochastic and drawdown.

The van Herk–Gil-Werman method: the series is cut into blocks of one window; every window is a suffix of one block and
a prefix of the next, so two comparisons a bar are enough whatever the window.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError


@njit(cache=True, nogil=True)
def _extreme(values, window, sign):
    """Return the extremes; what is not finite counts as infinite, which no comparison loses, and becomes NaN.

    Comparisons are spelled out, for `max` looks for a NaN each time.
    """
    size = values.size
    out = np.empty(size)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    marked, suffix = np.empty(window), np.full(window + 1, -np.inf)
    for block in range(0, size, window):
        part, target = values[block : block + window], out[block : block + window]
        for i in range(part.size):
            marked[i] = sign * part[i] if np.isfinite(part[i]) else np.inf
        prefix, best = -np.inf, -np.inf
        for i in range(part.size):
            prefix = marked[i] if marked[i] > prefix else prefix
            target[i] = prefix if prefix > suffix[i + 1] else suffix[i + 1]
        for i in range(part.size - 1, -1, -1):
            best = marked[i] if marked[i] > best else best
            suffix[i] = best
    for i in range(size):
        out[i] = sign * out[i] if out[i] < np.inf else np.nan
    out[: min(window - 1, size)] = np.nan
    return out


@njit(cache=True, nogil=True)
def rolling_max(values, window):
    """Return the largest of the last `window` values.

    A window with a non-finite value gives NaN, as do the first ``window - 1`` bars. O(n). Raises InputError if
    `window` is below 1.
    """
    return _extreme(values, window, 1.0)


@njit(cache=True, nogil=True)
def rolling_min(values, window):
    """Return the smallest of the last `window` values; the NaN rule and cost are those of `rolling_max`."""
    return _extreme(values, window, -1.0)


@njit(cache=True, nogil=True)
def stochastic(high, low, close, window, smoothing):
    """Return %K and %D of the slow stochastic, 0 to 100, both smoothed by a simple mean of `smoothing` bars.

    A flat window has no range and gives NaN (TA-Lib says 0), as does a window with a NaN. O(n). Source: Lane (1984).
    """
    raw, bottom = rolling_max(high, window), rolling_min(low, window)
    for i in range(close.size):
        span, rise = raw[i] - bottom[i], close[i] - bottom[i]
        raw[i] = 100.0 * rise / span if span > 0.0 and np.isfinite(rise) else np.nan
    slow = _short_mean(raw, smoothing)
    return slow, _short_mean(slow, smoothing)


@njit(cache=True, nogil=True)
def _short_mean(values, window):
    """Return the mean of a few bars, summed afresh each time."""
    out, share = np.empty(values.size), 1.0 / window
    out[: window - 1] = np.nan
    for end in range(window - 1, values.size):
        total = 0.0
        for j in range(end - window + 1, end + 1):
            total += values[j]
        out[end] = total * share
    return out


@njit(cache=True, nogil=True)
def drawdown(close, window):
    """Return the fall below the highest close of the last `window` bars, as a fraction at or below 0. O(n)."""
    peak = rolling_max(close, window)
    for i in range(close.size):
        peak[i] = close[i] / peak[i] - 1.0
    return peak
