"""Range-based and realised volatility, as deviations of one bar's log return (not annualised)."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.features.kernels.deviation import rolling_std
from tasks.features.kernels.sums import rolling_mean, rolling_sum


@njit(cache=True, nogil=True)
def _roots(values):
    """Replace each value by its root in place, NaN below zero; the array is one that the caller made."""
    for i in range(values.size):
        values[i] = np.sqrt(values[i]) if values[i] >= 0.0 else np.nan
    return values


@njit(cache=True, nogil=True)
def realised_volatility(returns, window):
    """Return the root of the sum of squared returns over `window` bars. NaN rule of `rolling_sum`. O(n)."""
    return _roots(rolling_sum(returns * returns, window))


@njit(cache=True, nogil=True)
def parkinson(high, low, window):
    """Return Parkinson's volatility per bar from highs and lows. O(n). Source: Parkinson (1980)."""
    spread = np.log(high / low)
    return _roots(rolling_mean(spread * spread * (0.25 / np.log(2.0)), window))


@njit(cache=True, nogil=True)
def garman_klass(opens, high, low, close, window):
    """Return the Garman–Klass volatility per bar; NaN where the estimate is negative. O(n). Source: (1980), eq. 20."""
    spread, body = np.log(high / low), np.log(close / opens)
    return _roots(rolling_mean(0.5 * spread * spread - (2.0 * np.log(2.0) - 1.0) * body * body, window))


@njit(cache=True, nogil=True)
def yang_zhang(opens, high, low, close, window):
    """Return the Yang–Zhang volatility per bar, unbiased under drift and opening jumps; NaN for `window` bars.

    The overnight variance, k times the open-to-close one and 1 - k times Rogers–Satchell's. O(n). Source: Yang and
    Zhang (2000).
    """
    size = close.size
    jump, body, satchell = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    for i in range(1, size):
        jump[i] = np.log(opens[i] / close[i - 1])
        up, down = np.log(high[i] / opens[i]), np.log(low[i] / opens[i])
        body[i] = np.log(close[i] / opens[i])
        satchell[i] = up * (up - body[i]) + down * (down - body[i])
    share = 0.34 / (1.34 + (window + 1.0) / (window - 1.0))
    out = rolling_mean(satchell, window)
    overnight, day = rolling_std(jump, window), rolling_std(body, window)
    for i in range(size):
        out[i] = overnight[i] * overnight[i] + share * day[i] * day[i] + (1.0 - share) * out[i]
    return _roots(out)
