"""Recursive averages and the indicators built on them: EWMA, Wilder's mean, RSI, ATR, MACD.

One NaN rule for all: a bar whose input is not finite gives NaN and is skipped; the state carries over it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError


@njit(cache=True, nogil=True, inline="always")
def _blend(state, value, seen, window, weight):
    """Return the state after the `seen`-th value: a sum of the first `window` values, from their mean on blended."""
    if seen > window:
        return state + weight * (value - state)
    return (state + value) / window if seen == window else state + value


@njit(cache=True, nogil=True)
def smooth(values, window, weight):
    """Average recursively with `weight` for the new value, started from the plain mean of the first `window` values.

    The first ``window - 1`` finite bars give NaN. O(n). Raises InputError if `window` is below 1.
    """
    out = np.empty(values.size)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    seen, state = 0, 0.0
    for i in range(values.size):
        out[i] = np.nan
        if np.isfinite(values[i]):
            seen += 1
            state = _blend(state, values[i], seen, window, weight)
            if seen >= window:
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
    size, ready = close.size, max(fast, slow)
    line, smoothed, gap = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    if min(fast, slow, signal) < 1:
        raise InputError("window: expected at least 1 bar")
    seen, quick, calm, state = 0, 0.0, 0.0, 0.0
    for i in range(size):
        if not np.isfinite(close[i]):
            continue
        seen += 1
        quick = _blend(quick, close[i], seen, fast, 2.0 / (fast + 1.0))
        calm = _blend(calm, close[i], seen, slow, 2.0 / (slow + 1.0))
        if seen >= ready:
            line[i] = quick - calm
            state = _blend(state, line[i], seen - ready + 1, signal, 2.0 / (signal + 1.0))
        if seen >= ready + signal - 1:
            smoothed[i], gap[i] = state, line[i] - state
    return line, smoothed, gap
