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
    size = values.size
    out = np.empty(size)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    suffix = np.full(window + 1, -np.inf)
    missing = window - 1
    for block in range(0, size, window):
        part, target = values[block : block + window], out[block : block + window]
        prefix = -np.inf
        for i in range(part.size):
            value = sign * part[i]
            if not np.isfinite(value):
                missing = max(missing, block + i + window)
            elif value > prefix:
                prefix = value
            target[i] = sign * max(prefix, suffix[i + 1]) if block + i >= missing else np.nan
        best = -np.inf
        for i in range(part.size - 1, -1, -1):
            best = max(best, sign * part[i])
            suffix[i] = best
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
    out, share = np.full(values.size, np.nan), 1.0 / window
    for end in range(window, values.size + 1):
        total = 0.0
        for value in values[end - window : end]:
            total += value
        out[end - 1] = total * share
    return out


@njit(cache=True, nogil=True)
def drawdown(close, window):
    """Return the fall below the highest close of the last `window` bars, as a fraction at or below 0. O(n)."""
    peak = rolling_max(close, window)
    for i in range(close.size):
        peak[i] = close[i] / peak[i] - 1.0
    return peak
