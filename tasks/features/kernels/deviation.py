"""Rolling standard deviation from sums about an anchor that follows the data.

Sums of raw squares lose every digit where the level is large beside the noise, and Welford's running update never
forgets the rounding of a spike. Here both sums are taken about an anchor (the mean of some recent window). They are
summed afresh, two passes, about a new anchor whenever the deviation falls far below the sums it is the difference of
(a spike has left, the level has moved, the window is flat) and after a fixed number of steps. Only past bars decide
where.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError

#: A fresh start where the squared deviations fall below this fraction of the largest sum since the last one.
#: The error of a variance is then at most about steps · 2**-53 / CONDITION.
CONDITION = 1.0 / 64.0


@njit(cache=True, nogil=True)
def steps_between(window):
    """Return the steps from one fresh start to the next: many windows, so that fresh starts cost O(n) in all."""
    return max(1024, 8 * window)


@njit(cache=True, nogil=True)
def fresh_squares(values):
    """Return anchor, sum and sum of squares about it, and the count of non-finite values.

    The anchor of equal values is that value, so that both sums are exactly 0.
    """
    origin, total, count = 0.0, 0.0, 0
    for value in values:
        if np.isfinite(value):
            origin = value if count == 0 else origin
            total += value - origin
            count += 1
    anchor = origin + total / count if count > 0 else 0.0
    first, second = 0.0, 0.0
    for value in values:
        if np.isfinite(value):
            distance = value - anchor
            first += distance
            second += distance * distance
    return anchor, first, second, values.size - count


@njit(cache=True, nogil=True)
def _advance(entering, leaving, out, means, sums, ddof, window):
    """Move the window bar by bar and return how many bars went well; the next one needs a fresh start.

    Views that all begin at 0 spare the index arithmetic of negative positions, a third of the time.
    """
    anchor, first, second, bad = sums
    inverse, freedom, peak, keep = 1.0 / window, 1.0 / (window - ddof), second, means.size > 0
    for i in range(entering.size):
        gain, loss = entering[i] - anchor, leaving[i] - anchor
        change = gain - loss
        if not np.isfinite(change):
            if not np.isfinite(gain):
                bad, gain = bad + 1, 0.0
            if not np.isfinite(loss):
                bad, loss = bad - 1, 0.0
            change = gain - loss
        first += change
        second += change * (gain + loss)
        squares = second - first * first * inverse
        peak = max(peak, second)
        if not squares >= CONDITION * peak:
            return i
        if bad == 0:
            out[i] = np.sqrt(squares * freedom)
            if keep:
                means[i] = anchor + first * inverse
    return entering.size


@njit(cache=True, nogil=True)
def _deviation(values, window, ddof, means):
    """Return the rolling deviation; where `means` is not empty it receives the rolling means, good to an ulp or two."""
    size = values.size
    out = np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    if size < window or window <= ddof:
        return out
    steps, i = steps_between(window), window - 1
    while i < size:
        sums = fresh_squares(values[i - window + 1 : i + 1])
        anchor, first, second, bad = sums
        if bad == 0:
            out[i] = np.sqrt(max(second - first * first / window, 0.0) / (window - ddof))
            if means.size > 0:
                means[i] = anchor + first / window
        i += 1
        stop = min(i + steps, size)
        tail = means[i:stop]
        i += _advance(values[i:stop], values[i - window : stop - window], out[i:stop], tail, sums, ddof, window)
    return out


@njit(cache=True, nogil=True)
def rolling_std(values, window, ddof=1):
    """Return the standard deviation of the last `window` values with ``window - ddof`` degrees of freedom.

    Exactly 0 on flat windows. A window with a non-finite value gives NaN, as do the first ``window - 1`` bars and a
    window that leaves no degree of freedom. O(n). Raises InputError if `window` is below 1.
    """
    return _deviation(values, window, ddof, np.empty(0))


@njit(cache=True, nogil=True)
def zscore(values, window):
    """Return how many standard deviations (one degree of freedom lost) the value lies above its rolling mean.

    NaN where the window is flat: no deviation, no score. Otherwise the NaN rule and cost of `rolling_std`.
    """
    means = np.full(values.size, np.nan)
    out = _deviation(values, window, 1, means)
    for i in range(values.size):
        out[i] = (values[i] - means[i]) / out[i] if out[i] > 0.0 else np.nan
    return out


@njit(cache=True, nogil=True)
def bollinger(close, window, width):
    """Return the lower and upper Bollinger band, `width` population deviations about the mean, and %b.

    %b is where the close lies between them: 0 at the lower, 1 at the upper, NaN where they meet. The NaN rule and cost
    of `rolling_std`. Source: Bollinger (2001); the bands are TA-Lib's BBANDS.
    """
    lower, position = np.full(close.size, np.nan), np.full(close.size, np.nan)
    upper = _deviation(close, window, 0, lower)
    for i in range(close.size):
        mean, reach = lower[i], width * upper[i]
        lower[i], upper[i] = mean - reach, mean + reach
        if reach > 0.0:
            position[i] = 0.5 + 0.5 * (close[i] - mean) / reach
    return lower, upper, position
