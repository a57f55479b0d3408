"""Numba kernels: float64 arrays in, a new array out, the input never written to.

Every kernel is causal (bar t depends on bars up to t), releases the GIL, compiles once per machine (cached) and has a
slow twin of the same name in `tasks.features.reference` that defines it. Windows count bars and include the present
one.
"""

from tasks.features.kernels.clock import seasonal_ratio, time_of_day, usual_at_this_time
from tasks.features.kernels.deviation import bollinger, rolling_std, zscore
from tasks.features.kernels.extremes import drawdown, rolling_max, rolling_min, stochastic
from tasks.features.kernels.flow import amihud, obv, obv_change, volume_pressure, vwap
from tasks.features.kernels.order import rolling_median, rolling_quantile
from tasks.features.kernels.pairs import autocorrelation, rolling_beta, rolling_correlation, rolling_pair
from tasks.features.kernels.shape import hurst, rolling_skew
from tasks.features.kernels.smoothing import (
    atr,
    ewma_mean,
    ewma_volatility,
    macd,
    rsi,
    smooth,
    true_range,
    wilder_mean,
)
from tasks.features.kernels.sums import rolling_mean, rolling_sum
from tasks.features.kernels.volatility import garman_klass, parkinson, realised_volatility, yang_zhang

__all__ = [
    "amihud",
    "atr",
    "autocorrelation",
    "bollinger",
    "drawdown",
    "ewma_mean",
    "ewma_volatility",
    "garman_klass",
    "hurst",
    "macd",
    "obv",
    "obv_change",
    "parkinson",
    "realised_volatility",
    "rolling_beta",
    "rolling_correlation",
    "rolling_max",
    "rolling_mean",
    "rolling_median",
    "rolling_min",
    "rolling_pair",
    "rolling_quantile",
    "rolling_skew",
    "rolling_std",
    "rolling_sum",
    "rsi",
    "seasonal_ratio",
    "smooth",
    "stochastic",
    "time_of_day",
    "true_range",
    "usual_at_this_time",
    "volume_pressure",
    "vwap",
    "wilder_mean",
    "yang_zhang",
    "zscore",
]
