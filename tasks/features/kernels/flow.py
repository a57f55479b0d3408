"""Volume: prices weighted by it, its direction, and its price impact."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.features.kernels.sums import rolling_sum


@njit(cache=True, nogil=True)
def _ratio(top, bottom):
    """Divide in place, NaN where the divisor is not positive; both arrays are ones that the caller made."""
    for i in range(top.size):
        top[i] = top[i] / bottom[i] if bottom[i] > 0.0 else np.nan
    return top


@njit(cache=True, nogil=True)
def vwap(high, low, close, volume, window):
    """Return the volume-weighted mean of the typical price over `window` bars, and the close's distance from it.

    The typical price is (high + low + close) / 3, the distance a fraction of the mean. NaN where the window has no
    volume; otherwise the NaN rule and cost of `rolling_sum`.
    """
    mean, distance = rolling_sum((high + low + close) / 3.0 * volume, window), rolling_sum(volume, window)
    for i in range(close.size):
        mean[i] = mean[i] / distance[i] if distance[i] > 0.0 else np.nan
        distance[i] = close[i] / mean[i] - 1.0
    return mean, distance


@njit(cache=True, nogil=True)
def obv(close, volume):
    """Return Granville's on-balance volume from the first bar on, in units of volume (TA-Lib's OBV).

    It never forgets where it started, so the registry offers `obv_change`. A NaN change or volume adds nothing.
    """
    out = np.zeros(close.size)
    for i in range(close.size):
        step = volume[i] if i == 0 else np.sign(close[i] - close[i - 1]) * volume[i]
        out[i] = (out[i - 1] if i > 0 else 0.0) + (step if np.isfinite(step) else 0.0)
    return out


@njit(cache=True, nogil=True)
def obv_change(close, volume, window):
    """Return the change of on-balance volume over `window` bars: volume counted with the sign of the close's change."""
    signed = np.full(close.size, np.nan)
    for i in range(1, close.size):
        signed[i] = np.sign(close[i] - close[i - 1]) * volume[i]
    return rolling_sum(signed, window)


@njit(cache=True, nogil=True)
def amihud(returns, close, volume, window):
    """Return Amihud's illiquidity: the mean of |return| / (close · volume) over the bars of the window with turnover.

    NaN where no bar of the window traded or one has a non-finite input. O(n). Source: Amihud (2002).
    """
    impact, idle = np.zeros(close.size), np.zeros(close.size, np.bool_)
    for i in range(close.size):
        turnover = close[i] * volume[i]
        idle[i] = turnover == 0.0
        if not idle[i]:
            impact[i] = abs(returns[i]) / turnover
    out, traded = rolling_sum(impact, window), 0
    for i in range(close.size):
        traded += not idle[i]
        if i >= window:
            traded -= not idle[i - window]
        out[i] = out[i] / traded if traded > 0 else np.nan
    return out


@njit(cache=True, nogil=True)
def volume_pressure(opens, close, volume, window):
    """Return Σ sign(close - open) · volume / Σ volume over `window` bars, -1 to 1; NaN without volume. O(n)."""
    return _ratio(rolling_sum(np.sign(close - opens) * volume, window), rolling_sum(volume, window))
