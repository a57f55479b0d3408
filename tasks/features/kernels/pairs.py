"""Rolling moments of two series: correlation, beta, and autocorrelation as a series with its own past."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError
from tasks.features.kernels.deviation import CONDITION, steps_between


@njit(cache=True, nogil=True)
def _fresh_products(x, y, start, stop):
    """Return both anchors, the five sums about them, and the count of unusable pairs in ``[start, stop)``."""
    anchor_x, anchor_y, count = 0.0, 0.0, 0
    for i in range(start, stop):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            count += 1
            anchor_x += (x[i] - anchor_x) / count
            anchor_y += (y[i] - anchor_y) / count
    sum_x, sum_y, sum_xx, sum_yy, sum_xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(start, stop):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            dx, dy = x[i] - anchor_x, y[i] - anchor_y
            sum_x += dx
            sum_y += dy
            sum_xx += dx * dx
            sum_yy += dy * dy
            sum_xy += dx * dy
    return anchor_x, anchor_y, sum_x, sum_y, sum_xx, sum_yy, sum_xy, stop - start - count


@njit(cache=True, nogil=True)
def _pair_moments(x, y, window, correlate):
    """Return the rolling correlation, or the slope of `x` on `y` where `correlate` is False."""
    size = x.size
    out = np.full(size, np.nan)
    if window < 2:
        raise InputError("window: expected at least 2 bars")
    if y.size != size:
        raise InputError("x and y: expected equally many bars")
    if size < window:
        return out
    inverse, limit = 1.0 / window, steps_between(window)
    ax, ay, sx, sy, sxx, syy, sxy, bad = _fresh_products(x, y, 0, window)
    peak_x, peak_y, due = sxx, syy, window - 1 + limit
    same_x, same_y = 1, 1
    for i in range(1, window - 1):
        same_x = same_x + 1 if x[i] == x[i - 1] else 1
        same_y = same_y + 1 if y[i] == y[i - 1] else 1
    for i in range(window - 1, size):
        same_x = same_x + 1 if x[i] == x[i - 1] else 1
        same_y = same_y + 1 if y[i] == y[i - 1] else 1
        if i >= window:
            gain_x, gain_y = x[i] - ax, y[i] - ay
            loss_x, loss_y = x[i - window] - ax, y[i - window] - ay
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
        if i >= due or not (xx >= CONDITION * peak_x and yy >= CONDITION * peak_y):
            ax, ay, sx, sy, sxx, syy, sxy, bad = _fresh_products(x, y, i - window + 1, i + 1)
            peak_x, peak_y, due = sxx, syy, i + limit
            xx, yy = sxx - sx * sx * inverse, syy - sy * sy * inverse
        if bad == 0 and same_y < window and (same_x < window or not correlate):
            xy = sxy - sx * sy * inverse
            out[i] = max(-1.0, min(1.0, xy / np.sqrt(xx * yy))) if correlate else xy / yy
    return out


@njit(cache=True, nogil=True)
def rolling_correlation(x, y, window):
    """Return Pearson's correlation of the last `window` pairs, -1 to 1.

    NaN where either side is flat, where the window holds a non-finite value, and for the first ``window - 1`` bars.
    O(n), about anchors as in `rolling_std`. Raises InputError if `window` is below 2.
    """
    return _pair_moments(x, y, window, True)


@njit(cache=True, nogil=True)
def rolling_beta(returns, benchmark, window):
    """Return the least-squares slope of `returns` on `benchmark` over the last `window` bars.

    NaN where the benchmark is flat; otherwise the NaN rule and cost of `rolling_correlation`.
    """
    return _pair_moments(returns, benchmark, window, False)


@njit(cache=True, nogil=True)
def autocorrelation(values, window, lag):
    """Return the correlation of the last `window` values with those `lag` bars before each of them."""
    if lag < 1:
        raise InputError("lag: expected at least 1 bar")
    earlier = np.full(values.size, np.nan)
    if lag < values.size:
        earlier[lag:] = values[:-lag]
    return rolling_correlation(values, earlier, window)
