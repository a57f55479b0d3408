"""Rolling skewness, and the Hurst exponent from the growth of deviations with the lag."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError
from tasks.features.kernels.deviation import CONDITION, fresh_squares, rolling_std, steps_between

#: Lags of the Hurst fit, in bars. Powers of two space the logarithms evenly.
HURST_LAGS = (1, 2, 4, 8, 16)


@njit(cache=True, nogil=True)
def _fresh_cubes(values, start, stop, anchor):
    third = 0.0
    for i in range(start, stop):
        if np.isfinite(values[i]):
            distance = values[i] - anchor
            third += distance * distance * distance
    return third


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
    if size < window:
        return out
    inverse, limit = 1.0 / window, steps_between(window)
    correction = np.sqrt(window * (window - 1.0)) / (window - 2.0)
    same = 1
    for i in range(1, window - 1):
        same = same + 1 if values[i] == values[i - 1] else 1
    anchor, first, second, bad = fresh_squares(values[:window])
    third, peak, due = _fresh_cubes(values, 0, window, anchor), second, window - 1 + limit
    for i in range(window - 1, size):
        same = same + 1 if values[i] == values[i - 1] else 1
        if i >= window:
            gain, loss = values[i] - anchor, values[i - window] - anchor
            if not np.isfinite(gain):
                bad, gain = bad + 1, 0.0
            if not np.isfinite(loss):
                bad, loss = bad - 1, 0.0
            first += gain - loss
            second += (gain - loss) * (gain + loss)
            third += gain * gain * gain - loss * loss * loss
            peak = max(peak, second)
        mean = first * inverse
        if i >= due or not second - mean * first >= CONDITION * peak:
            anchor, first, second, bad = fresh_squares(values[i - window + 1 : i + 1])
            third, peak, due = _fresh_cubes(values, i - window + 1, i + 1, anchor), second, i + limit
            mean = first * inverse
        if bad == 0 and same < window:
            variance = second * inverse - mean * mean
            cube = third * inverse - 3.0 * mean * second * inverse + 2.0 * mean * mean * mean
            out[i] = correction * cube / (variance * np.sqrt(variance))
    return out


@njit(cache=True, nogil=True)
def hurst(log_price, window):
    """Return the Hurst exponent: the slope of log deviation of lagged differences on log lag, over `window` bars.

    0.5 for a random walk, above it for trends, below it for reversion. NaN where some lag's differences are flat, where
    the window holds a non-finite value, and for the first ``window + 15`` bars. O(n) for each of the five `HURST_LAGS`.
    Source: generalised Hurst exponent with q = 2, Di Matteo (2007).
    """
    size = log_price.size
    slope = np.zeros(size)
    centre, weight = 2.0, 10.0  # of the log2 lags 0, 1, 2, 3, 4: their mean and summed squared distances from it
    for k in range(len(HURST_LAGS)):
        lag = HURST_LAGS[k]
        changes = np.full(size, np.nan)
        for i in range(lag, size):
            changes[i] = log_price[i] - log_price[i - lag]
        deviation = rolling_std(changes, window)
        for i in range(size):
            slope[i] += (k - centre) / weight * np.log2(deviation[i]) if deviation[i] > 0.0 else np.nan
    return slope
