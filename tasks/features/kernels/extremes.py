"""Rolling minimum and maximum with a monotonic queue."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError


@njit(cache=True, nogil=True)
def _rolling_extreme(values, window, sign):
    size = values.size
    out = np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    queue = np.empty(size, np.int64)
    head, tail, last_bad = 0, 0, -1
    for i in range(size):
        value = sign * values[i]
        if np.isnan(value):
            last_bad, head, tail = i, 0, 0
            continue
        while tail > head and sign * values[queue[tail - 1]] <= value:
            tail -= 1
        queue[tail] = i
        tail += 1
        if queue[head] <= i - window:
            head += 1
        if i - last_bad >= window:
            out[i] = values[queue[head]]
    return out


@njit(cache=True, nogil=True)
def rolling_max(values, window):
    """Return the largest of the last `window` values.

    A window with a NaN gives NaN, as do the first ``window - 1`` bars; infinities are values. O(n). Raises InputError
    if `window` is below 1.
    """
    return _rolling_extreme(values, window, 1.0)


@njit(cache=True, nogil=True)
def rolling_min(values, window):
    """Return the smallest of the last `window` values; the NaN rule and cost are those of `rolling_max`."""
    return _rolling_extreme(values, window, -1.0)
