"""Rolling skewness, and the Hurst exponent from the growth of deviations with the lag."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError
from tasks.features.kernels.deviation import CONDITION, fresh_squares, rolling_std, steps_between


@njit(cache=True, nogil=True)
def _fresh_cubes(values, anchor):
    third = 0.0
    for value in values:
        if np.isfinite(value):
            distance = value - anchor
            third += distance * distance * distance
    return third


@njit(cache=True, nogil=True)
def _skewness(first, second, third, window):
    """Return G1 from sums of powers about an anchor, NaN where there is no deviation."""
    mean = first / window
    variance = second / window - mean * mean
    if not variance > 0.0:
        return np.nan
    cube = (third - 3.0 * mean * second) / window + 2.0 * mean * mean * mean
    return np.sqrt(window * (window - 1.0)) / (window - 2.0) * cube / (variance * np.sqrt(variance))


@njit(cache=True, nogil=True)
def _advance(entering, leaving, out, sums, third, window):
    """Move the window bar by bar and return how many bars went well; the next one needs a fresh start."""
    anchor, first, second, bad = sums
    inverse, peak = 1.0 / window, second
    for i in range(entering.size):
        gain, loss = entering[i] - anchor, leaving[i] - anchor
        if not np.isfinite(gain - loss):
            if not np.isfinite(gain):
                bad, gain = bad + 1, 0.0
            if not np.isfinite(loss):
                bad, loss = bad - 1, 0.0
        first += gain - loss
        second += (gain - loss) * (gain + loss)
        third += gain * gain * gain - loss * loss * loss
        peak = max(peak, second)
        if not second - first * first * inverse >= CONDITION * peak:
            return i
        if bad == 0:
            out[i] = _skewness(first, second, third, window)
    return entering.size


@njit(cache=True, nogil=True)
def rolling_skew(values, window):
    """Return the bias-corrected sample skewness G1 of the last `window` values (pandas' definition).

    NaN where the window is flat, where it holds a non-finite value, and for the first ``window - 1`` bars. O(n), about
    an anchor as in `rolling_std`. Raises InputError if `window` is below 3.
    """
    size = values.size
    out = np.full(size, np.nan)
    if window < 3:
        raise InputError("window: expected at least 3 bars")
    steps, i = steps_between(window), window - 1
    while i < size:
        part = values[i - window + 1 : i + 1]
        sums = fresh_squares(part)
        third = _fresh_cubes(part, sums[0])
        if sums[3] == 0:
            out[i] = _skewness(sums[1], sums[2], third, window)
        i += 1
        stop = min(i + steps, size)
        i += _advance(values[i:stop], values[i - window : stop - window], out[i:stop], sums, third, window)
    return out


@njit(cache=True, nogil=True)
def _lagged_deviation(values, lag, start, stop, window):
    """Return the deviations of the changes over `lag` bars, for the bars ``[start, stop)``."""
    first = start - window + 1
    return rolling_std(values[first:stop] - values[first - lag : stop - lag], window)[window - 1 :]


@njit(cache=True, nogil=True)
def hurst(log_price, window):
    """Return the Hurst exponent: the slope of log deviation on log lag, for differences over 1, 2, 8 and 16 bars.

    0.5 for a random walk, above it for trends, below it for reversion. NaN where some lag's differences are flat, where
    the window holds a non-finite value, and for the first ``window + 15`` bars. O(n) for each lag, block by block so
    that the deviations stay in the cache. Source: generalised Hurst exponent with q = 2, Di Matteo (2007).
    """
    out, steps = np.full(log_price.size, np.nan), steps_between(window)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    for start in range(window + 15, out.size, steps):
        stop = min(start + steps, out.size)
        one = _lagged_deviation(log_price, 1, start, stop, window)
        two = _lagged_deviation(log_price, 2, start, stop, window)
        near = _lagged_deviation(log_price, 8, start, stop, window)
        far = _lagged_deviation(log_price, 16, start, stop, window)
        for i in range(far.size):
            # The log2 lags 0, 1, 3, 4 have mean 2 and squared distances of 10: the slope is a tenth of one logarithm.
            bottom, top = one[i] * one[i] * two[i], far[i] * far[i] * near[i]
            out[start + i] = 0.1 * np.log2(top / bottom) if bottom > 0.0 and top > 0.0 else np.nan
    return out
