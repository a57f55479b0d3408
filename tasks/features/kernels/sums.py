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
_RENORMALISE = 63  # a mask: every 64 steps
_SPLITTER = 134217729.0  # 2**27 + 1: Veltkamp's, cuts a double into two halves whose products are exact
_SPLIT_LIMIT = 1e290


@njit(cache=True, nogil=True)
def two_sum(a, b):
    """Return ``fl(a + b)`` and the rounding error of it, exactly (Knuth)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


@njit(cache=True, nogil=True)
def _fresh_sum(values):
    """Sum the values in two floats; also the largest and smallest non-zero magnitude, and the bad ones."""
    high, low, biggest, smallest, bad = 0.0, 0.0, 0.0, np.inf, 0
    for value in values:
        if not np.isfinite(value):
            bad += 1
            continue
        high, error = two_sum(high, value)
        low += error
        magnitude = abs(value)
        biggest = max(biggest, magnitude)
        smallest = min(smallest, magnitude) if magnitude > 0.0 else smallest
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
def _advance(entering, leaving, out, sums, window, divisor):
    """Move the window bar by bar and return how many bars went well; the next one needs a fresh start."""
    high, low, biggest, smallest, bad = sums
    limit = _SPREAD / window
    for i in range(entering.size):
        gain, loss = entering[i], leaving[i]
        change, change_error = two_sum(gain, -loss)
        if not np.isfinite(change):
            if not np.isfinite(gain):
                bad, gain = bad + 1, 0.0
            if not np.isfinite(loss):
                bad, loss = bad - 1, 0.0
            change, change_error = two_sum(gain, -loss)
        high, error = two_sum(high, change)
        low += error + change_error
        magnitude = abs(gain)
        biggest = max(biggest, magnitude)
        smallest = min(smallest, magnitude) if magnitude > 0.0 else smallest
        if not biggest <= limit * smallest:
            return i
        if i & _RENORMALISE == _RENORMALISE:
            high, low = two_sum(high, low)
        if bad == 0:
            total, rest = two_sum(high, low)
            out[i] = total if divisor == 1.0 else _divide(total, rest, divisor)
    return entering.size


@njit(cache=True, nogil=True)
def _rolling_total(values, window, divisor):
    size = values.size
    out = np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    i = window - 1
    while i < size:
        sums = _fresh_sum(values[i - window + 1 : i + 1])
        if sums[4] == 0:
            out[i] = sums[0] if divisor == 1.0 else _divide(sums[0], sums[1], divisor)
        i += 1
        i += _advance(values[i:], values[i - window : size - window], out[i:], sums, window, divisor)
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
