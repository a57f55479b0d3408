"""Rolling sum and mean, exact: ties between windows are ties between bits.

A running float sum turns equal windows into values that differ in the last digit, and a crossing rule then trades on
noise. Here the window's sum is carried in two floats (Knuth's TwoSum), which together hold it without any error as
long as ``window · max|x| / min|x|`` stays below 2**46 among the values seen since the last fresh start; where it does
not, the window is summed afresh. The mean is the exact quotient rounded once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError

_SPREAD = 2.0**46
_RENORMALISE = 64
_SPLITTER = 134217729.0  # 2**27 + 1: Veltkamp's, cuts a double into two halves whose products are exact
_SPLIT_LIMIT = 1e290


@njit(cache=True, nogil=True)
def two_sum(a, b):
    """Return ``fl(a + b)`` and the rounding error of it, exactly (Knuth)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


@njit(cache=True, nogil=True)
def _fresh_sum(values, start, stop):
    """Sum ``values[start:stop]`` in two floats; also the largest and smallest non-zero magnitude, and the bad ones."""
    high, low, biggest, smallest, bad = 0.0, 0.0, 0.0, np.inf, 0
    for i in range(start, stop):
        value = values[i]
        if not np.isfinite(value):
            bad += 1
            continue
        high, error = two_sum(high, value)
        low += error
        magnitude = abs(value)
        biggest = max(biggest, magnitude)
        if magnitude > 0.0:
            smallest = min(smallest, magnitude)
    high, low = two_sum(high, low)
    return high, low, biggest, smallest, bad


@njit(cache=True, nogil=True)
def _divide(high, low, divisor):
    """Return ``(high + low) / divisor`` rounded once; `divisor` is a whole number below 2**26."""
    quotient = high / divisor
    if not abs(quotient) < _SPLIT_LIMIT:
        return quotient
    scaled = _SPLITTER * quotient
    top = scaled - (scaled - quotient)
    remainder = ((high - top * divisor) - (quotient - top) * divisor) + low
    return quotient + remainder / divisor


@njit(cache=True, nogil=True)
def _rolling_total(values, window, divisor):
    size = values.size
    out = np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    if size < window:
        return out
    high, low, biggest, smallest, bad = _fresh_sum(values, 0, window)
    for i in range(window - 1, size):
        if i >= window:
            entering, leaving = values[i], values[i - window]
            if not np.isfinite(entering):
                bad, entering = bad + 1, 0.0
            if not np.isfinite(leaving):
                bad, leaving = bad - 1, 0.0
            change, change_error = two_sum(entering, -leaving)
            high, error = two_sum(high, change)
            low += error + change_error
            magnitude = abs(entering)
            biggest = max(biggest, magnitude)
            if magnitude > 0.0:
                smallest = min(smallest, magnitude)
            if biggest * window > _SPREAD * smallest:
                high, low, biggest, smallest, bad = _fresh_sum(values, i - window + 1, i + 1)
            elif i % _RENORMALISE == 0:
                high, low = two_sum(high, low)
        if bad == 0:
            total, rest = two_sum(high, low)
            out[i] = total if divisor == 1.0 else _divide(total, rest, divisor)
    return out


@njit(cache=True, nogil=True)
def rolling_sum(values, window):
    """Sum the last `window` values.

    A window with a non-finite value gives NaN, as do the first ``window - 1`` bars. Windows that hold the same values
    in any order give the same bits. O(n). Raises InputError if `window` is below 1.
    """
    return _rolling_total(values, window, 1.0)


@njit(cache=True, nogil=True)
def rolling_mean(values, window):
    """Average the last `window` values: the exact mean, rounded once.

    Hence equal means of different windows, or of windows of different lengths, are equal bits, and a constant series
    has exactly itself as its mean. A window with a non-finite value gives NaN, as do the first ``window - 1`` bars.
    O(n). Raises InputError if `window` is below 1.
    """
    return _rolling_total(values, window, float(window))
