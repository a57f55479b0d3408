"""Range-based and realised volatility, as deviations of one bar's log return (not annualised).

They take logarithms of price ratios, which several of them share: `tasks.features.series` makes each once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.features.kernels.deviation import rolling_std
from tasks.features.kernels.sums import rolling_sum


@njit(cache=True, nogil=True)
def _roots(values, scale):
    """Replace each value by the root of `scale` times it in place, NaN below zero; the caller made the array."""
    for i in range(values.size):
        values[i] = np.sqrt(values[i] * scale) if values[i] >= 0.0 else np.nan
    return values


@njit(cache=True, nogil=True)
def realised_volatility(returns, window):
    """Return the root of the sum of squared returns over `window` bars. NaN rule of `rolling_sum`. O(n)."""
    return _roots(rolling_sum(returns * returns, window), 1.0)


@njit(cache=True, nogil=True)
def parkinson(log_range, window):
    """Return Parkinson's volatility per bar from ln(high / low). O(n). Source: Parkinson (1980)."""
    return _roots(rolling_sum(log_range * log_range, window), 0.25 / np.log(2.0) / window)


@njit(cache=True, nogil=True)
def garman_klass(log_range, log_body, window):
    """Return the Garman–Klass volatility per bar from ln(high / low) and ln(close / open).

    NaN where the estimate is negative. O(n). Source: Garman and Klass (1980), equation 20.
    """
    share = 2.0 * np.log(2.0) - 1.0
    return _roots(rolling_sum(0.5 * log_range * log_range - share * log_body * log_body, window), 1.0 / window)


@njit(cache=True, nogil=True)
def yang_zhang(log_jump, log_body, log_up, log_down, window):
    """Return the Yang–Zhang volatility per bar, unbiased under drift and opening jumps.

    From ln(open / close₋₁), ln(close / open), ln(high / open) and ln(low / open): the variance of the first, k times
    that of the second and 1 - k times Rogers–Satchell's. O(n). Source: Yang and Zhang (2000).
    """
    share = 0.34 / (1.34 + (window + 1.0) / (window - 1.0))
    satchell = log_up * (log_up - log_body) + log_down * (log_down - log_body)
    out = rolling_sum(satchell, window)
    overnight, day = rolling_std(log_jump, window), rolling_std(log_body, window)
    for i in range(out.size):
        out[i] = overnight[i] * overnight[i] + share * day[i] * day[i] + (1.0 - share) / window * out[i]
    return _roots(out, 1.0)
