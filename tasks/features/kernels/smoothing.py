"""Recursive averages and the indicators built on them: EWMA, Wilder's mean, RSI, ATR, MACD.

One NaN rule for all: a bar whose input is not finite gives NaN and is skipped; the state carries over it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError


@njit(cache=True, nogil=True)
def smooth(values, window, weight):
    """Average recursively with `weight` for the new value, started from the plain mean of the first `window` values.

    The first ``window - 1`` finite bars give NaN. O(n). Raises InputError if `window` is below 1.
    """
    out = np.full(values.size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    seen, state = 0, 0.0
    for i in range(values.size):
        value = values[i]
        if not np.isfinite(value):
            continue
        seen += 1
        if seen <= window:
            state += value
            if seen < window:
                continue
            state /= window
        else:
            state += weight * (value - state)
        out[i] = state
    return out


@njit(cache=True, nogil=True)
def ewma_mean(values, window):
    """Return the exponentially weighted mean of span `window`: weight ``2 / (window + 1)``, seeded as TA-Lib's EMA."""
    return smooth(values, window, 2.0 / (window + 1.0))


@njit(cache=True, nogil=True)
def wilder_mean(values, window):
    """Return Wilder's smoothed mean: weight ``1 / window``, seeded with the mean of the first `window` values."""
    return smooth(values, window, 1.0 / window)


@njit(cache=True, nogil=True)
def ewma_volatility(returns, decay):
    """Return the RiskMetrics volatility per bar: the root of the exponentially weighted mean of squared returns.

    The first finite return is the seed. O(n). Source: J.P. Morgan, RiskMetrics (1996), `decay` 0.94.
    """
    out = np.full(returns.size, np.nan)
    started, state = False, 0.0
    for i in range(returns.size):
        square = returns[i] * returns[i]
        if np.isfinite(square):
            state = state + (1.0 - decay) * (square - state) if started else square
            started = True
            out[i] = np.sqrt(state)
    return out


@njit(cache=True, nogil=True)
def rsi(close, window):
    """Return Wilder's relative strength index, 0 to 100; NaN while no price has moved (TA-Lib says 0 there).

    The first `window` bars give NaN, and so does a bar without a finite change. O(n). Source: Wilder (1978), VI.
    """
    out = np.full(close.size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    seen, up, down = 0, 0.0, 0.0
    for i in range(1, close.size):
        change = close[i] - close[i - 1]
        if not np.isfinite(change):
            continue
        seen += 1
        weight = 1.0 / min(seen, window)  # a plain mean of the first `window` changes, Wilder's from there on
        up += weight * (max(change, 0.0) - up)
        down += weight * (max(-change, 0.0) - down)
        if seen >= window and up + down > 0.0:
            out[i] = 100.0 * up / (up + down)
    return out


@njit(cache=True, nogil=True)
def true_range(high, low, close):
    """Return the range of the bar joined with the close before it; NaN at the first bar. Source: Wilder (1978)."""
    out = np.full(close.size, np.nan)
    for i in range(1, close.size):
        before = close[i - 1]
        if np.isfinite(before) and np.isfinite(high[i]) and np.isfinite(low[i]):
            out[i] = max(high[i], before) - min(low[i], before)
    return out


@njit(cache=True, nogil=True)
def atr(high, low, close, window):
    """Return the average true range: Wilder's mean of `true_range`, in price units; NaN for the first `window` bars."""
    return wilder_mean(true_range(high, low, close), window)


@njit(cache=True, nogil=True)
def macd(close, fast, slow, signal):
    """Return MACD line, signal line and histogram, in price units.

    Each average is seeded as `ewma_mean`'s; TA-Lib seeds the fast one later, the difference dies out with it. O(n).
    Source: Appel (1979).
    """
    line = ewma_mean(close, fast) - ewma_mean(close, slow)
    smoothed = ewma_mean(line, signal)
    return line, smoothed, line - smoothed
