"""Numba kernels: float64 arrays in, a new array out, the input never written to.

Every kernel is causal (bar t depends on bars up to t), releases the GIL, compiles once per machine (cached) and has a
slow twin of the same name in `tasks.features.reference` that defines it. Windows count bars and include the present
one.
"""

from tasks.features.kernels.deviation import rolling_std
from tasks.features.kernels.extremes import rolling_max, rolling_min
from tasks.features.kernels.smoothing import atr, ewma_mean, rsi, smooth, true_range, wilder_mean
from tasks.features.kernels.sums import rolling_mean, rolling_sum

__all__ = [
    "atr",
    "ewma_mean",
    "rolling_max",
    "rolling_mean",
    "rolling_min",
    "rolling_std",
    "rolling_sum",
    "rsi",
    "smooth",
    "true_range",
    "wilder_mean",
]
