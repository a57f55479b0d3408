"""Rolling moments of two series: correlation, beta, and autocorrelation as a series with its own past."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError
from tasks.features.kernels.deviation import CONDITION, steps_between


@njit(cache=True, nogil=True)
def _anchors(x, y):
    """Return the means of the usable pairs, exact for equal values, and how many pairs are unusable."""
    origin_x, origin_y, total_x, total_y, count = 0.0, 0.0, 0.0, 0.0, 0
    for i in range(x.size):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            if count == 0:
                origin_x, origin_y = x[i], y[i]
            total_x += x[i] - origin_x
            total_y += y[i] - origin_y
            count += 1
    divisor = max(count, 1)
    return origin_x + total_x / divisor, origin_y + total_y / divisor, x.size - count


@njit(cache=True, nogil=True)
def _fresh_products(x, y):
    """Return both anchors, the five sums about them, and the count of unusable pairs."""
    anchor_x, anchor_y, bad = _anchors(x, y)
    sum_x, sum_y, sum_xx, sum_yy, sum_xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(x.size):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            dx, dy = x[i] - anchor_x, y[i] - anchor_y
            sum_x += dx
            sum_y += dy
            sum_xx += dx * dx
            sum_yy += dy * dy
            sum_xy += dx * dy
    return anchor_x, anchor_y, sum_x, sum_y, sum_xx, sum_yy, sum_xy, bad


@njit(cache=True, nogil=True)
def _centred(sums, inverse):
    """Return the centred products xx, yy, xy of the sums."""
    _, _, sx, sy, sxx, syy, sxy, _ = sums
    return sxx - sx * sx * inverse, syy - sy * sy * inverse, sxy - sx * sy * inverse


@njit(cache=True, nogil=True)
def _statistics(xx, yy, xy):
    """Return correlation and slope of x on y; NaN where a side that they divide by is flat."""
    correlation = max(-1.0, min(1.0, xy / np.sqrt(xx * yy))) if xx > 0.0 and yy > 0.0 else np.nan
    return correlation, xy / yy if yy > 0.0 else np.nan


@njit(cache=True, nogil=True)
def _advance(x, y, x_old, y_old, correlation, beta, sums, window):
    """Move the window bar by bar and return how many bars went well; the next one needs a fresh start."""
    ax, ay, sx, sy, sxx, syy, sxy, bad = sums
    inverse, peak_x, peak_y, keep = 1.0 / window, sxx, syy, beta.size > 0
    for i in range(x.size):
        gain_x, gain_y, loss_x, loss_y = x[i] - ax, y[i] - ay, x_old[i] - ax, y_old[i] - ay
        if not np.isfinite((gain_x - loss_x) + (gain_y - loss_y)):
            if not (np.isfinite(gain_x) and np.isfinite(gain_y)):
                bad, gain_x, gain_y = bad + 1, 0.0, 0.0
            if not (np.isfinite(loss_x) and np.isfinite(loss_y)):
                bad, loss_x, loss_y = bad - 1, 0.0, 0.0
        sx += gain_x - loss_x
        sy += gain_y - loss_y
        sxx += (gain_x - loss_x) * (gain_x + loss_x)
        syy += (gain_y - loss_y) * (gain_y + loss_y)
        sxy += gain_x * gain_y - loss_x * loss_y
        peak_x, peak_y = max(peak_x, sxx), max(peak_y, syy)
        xx, yy = sxx - sx * sx * inverse, syy - sy * sy * inverse
        if not (xx >= CONDITION * peak_x and yy >= CONDITION * peak_y):
            return i
        if bad == 0:
            correlation[i], slope = _statistics(xx, yy, sxy - sx * sy * inverse)
            if keep:
                beta[i] = slope
    return x.size


@njit(cache=True, nogil=True)
def _pair(x, y, window, correlation, beta):
    """Fill `correlation`, and `beta` where it is not empty, from the first full window on."""
    size = x.size
    if window < 2:
        raise InputError("window: expected at least 2 bars")
    if y.size != size:
        raise InputError("x and y: expected equally many bars")
    steps, i = steps_between(window), window - 1
    while i < size:
        old = i - window + 1
        sums = _fresh_products(x[old : i + 1], y[old : i + 1])
        if sums[7] == 0:
            xx, yy, xy = _centred(sums, 1.0 / window)
            correlation[i], slope = _statistics(xx, yy, xy)
            if beta.size > 0:
                beta[i] = slope
        i += 1
        stop = min(i + steps, size)
        end = stop - window
        i += _advance(x[i:stop], y[i:stop], x[old:end], y[old:end], correlation[i:stop], beta[i:stop], sums, window)


@njit(cache=True, nogil=True)
def rolling_pair(x, y, window):
    """Return Pearson's correlation, -1 to 1, and the least-squares slope of `x` on `y`, of the last `window` pairs.

    NaN where the window holds a non-finite value, for the first ``window - 1`` bars, and where a side is flat (for the
    slope: `y`). O(n), about anchors as in `rolling_std`. Raises InputError if `window` is below 2.
    """
    correlation, beta = np.full(x.size, np.nan), np.full(x.size, np.nan)
    _pair(x, y, window, correlation, beta)
    return correlation, beta


@njit(cache=True, nogil=True)
def rolling_correlation(x, y, window):
    """Return the correlation of `rolling_pair`."""
    correlation = np.full(x.size, np.nan)
    _pair(x, y, window, correlation, np.empty(0))
    return correlation


@njit(cache=True, nogil=True)
def rolling_beta(returns, benchmark, window):
    """Return the slope of `rolling_pair`: the beta of `returns` to `benchmark`."""
    return rolling_pair(returns, benchmark, window)[1]


@njit(cache=True, nogil=True)
def autocorrelation(values, window, lag):
    """Return the correlation of the last `window` values with those `lag` bars before each of them."""
    if lag < 1:
        raise InputError("lag: expected at least 1 bar")
    correlation = np.full(values.size, np.nan)
    later = values[lag:]
    _pair(later, values[: later.size], window, correlation[lag:], np.empty(0))
    return correlation
