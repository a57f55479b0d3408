"""Rolling order statistics on a sorted window."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError


@njit(cache=True, nogil=True)
def _replace(ordered, leaving, entering):
    """Replace one value of a sorted array by another and keep it sorted, moving only what lies between them."""
    position = np.searchsorted(ordered, leaving)
    if entering > leaving:
        last = ordered.size - 1
        while position < last and ordered[position + 1] < entering:
            ordered[position] = ordered[position + 1]
            position += 1
    else:
        while position > 0 and ordered[position - 1] > entering:
            ordered[position] = ordered[position - 1]
            position -= 1
    ordered[position] = entering


@njit(cache=True, nogil=True)
def rolling_quantile(values, window, fraction):
    """Return the quantile of the last `window` values, linear between neighbours (NumPy's and pandas' default).

    A window with a non-finite value gives NaN, as do the first ``window - 1`` bars. A bar costs a binary search and a
    move of the values between the one that leaves and the one that enters: a few for a price, window / 3 for noise.
    Raises InputError if `window` is below 1 or `fraction` outside [0, 1].
    """
    size = values.size
    out = np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    if not 0.0 <= fraction <= 1.0:
        raise InputError("fraction: expected 0 to 1")
    place = fraction * (window - 1)
    below = int(place)
    above, rest = min(below + 1, window - 1), place - below
    ordered = np.full(window, np.inf)
    bad = window
    for i in range(size):
        entering, leaving = values[i], values[i - window] if i >= window else np.inf
        if not np.isfinite(entering):
            bad, entering = bad + 1, np.inf
        if not np.isfinite(leaving):
            bad, leaving = bad - 1, np.inf
        _replace(ordered, leaving, entering)
        if bad == 0:
            out[i] = ordered[below] + rest * (ordered[above] - ordered[below])
    return out


@njit(cache=True, nogil=True)
def rolling_median(values, window):
    """Return the median of the last `window` values; NaN rule and cost are those of `rolling_quantile`."""
    return rolling_quantile(values, window, 0.5)
