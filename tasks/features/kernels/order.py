"""Rolling order statistics, by following one rank instead of keeping the window sorted.

Most bars enter and leave on the same side of a quantile, and nothing moves. Where it moves, it moves by one rank, to
the next larger or smaller value of the window, which one pass in memory order finds.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError


@njit(cache=True, nogil=True)
def _next_above(window, value):
    """Return the smallest value above `value`; four independent minima, for one would wait on itself at every step."""
    first, second, third, fourth = np.inf, np.inf, np.inf, np.inf
    whole = window.size - window.size % 4
    for i in range(0, whole, 4):
        a, b, c, d = window[i], window[i + 1], window[i + 2], window[i + 3]
        first = a if (a > value) & (a < first) else first
        second = b if (b > value) & (b < second) else second
        third = c if (c > value) & (c < third) else third
        fourth = d if (d > value) & (d < fourth) else fourth
    for a in window[whole:]:
        first = a if (a > value) & (a < first) else first
    return min(min(first, second), min(third, fourth))


@njit(cache=True, nogil=True)
def _next_below(window, value):
    """Return the largest value below `value`, as `_next_above`."""
    first, second, third, fourth = -np.inf, -np.inf, -np.inf, -np.inf
    whole = window.size - window.size % 4
    for i in range(0, whole, 4):
        a, b, c, d = window[i], window[i + 1], window[i + 2], window[i + 3]
        first = a if (a < value) & (a > first) else first
        second = b if (b < value) & (b > second) else second
        third = c if (c < value) & (c > third) else third
        fourth = d if (d < value) & (d > fourth) else fourth
    for a in window[whole:]:
        first = a if (a < value) & (a > first) else first
    return max(max(first, second), max(third, fourth))


@njit(cache=True, nogil=True)
def _count_equal(window, value):
    count = 0
    for item in window:
        count += item == value
    return count


@njit(cache=True, nogil=True)
def _fresh_rank(window, rank):
    """Return the value of that rank, how many are smaller, how many are equal, and the next larger one."""
    ordered = np.sort(window)
    value = ordered[rank]
    return value, np.searchsorted(ordered, value), _count_equal(window, value), _next_above(window, value)


@njit(cache=True, nogil=True)
def _follow(window, entering, leaving, rank, state):
    """Return the state of `_fresh_rank` after one value left the window and one entered it."""
    value, below, equal, above = state
    below += (entering < value) - (leaving < value)
    equal += (entering == value) - (leaving == value)
    if below > rank:
        above = value if equal > 0 else _next_above(window, value)
        value = _next_below(window, value)
        equal = _count_equal(window, value)
        below -= equal
    elif below + equal <= rank:
        below += equal
        value = _next_above(window, value)
        equal = _count_equal(window, value)
        above = _next_above(window, value)
    elif leaving == above or value < entering < above:
        above = _next_above(window, value)
    return value, below, equal, above


@njit(cache=True, nogil=True)
def rolling_quantile(values, window, fraction):
    """Return the quantile of the last `window` values, linear between neighbours (NumPy's and pandas' default).

    A window with a non-finite value gives NaN, as do the first ``window - 1`` bars. A bar costs O(1) while the quantile
    stays and a pass or two over the window where it moves; order statistics have no O(n) method. Raises InputError if
    `window` is below 1 or `fraction` outside [0, 1].
    """
    size = values.size
    out = np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    if not 0.0 <= fraction <= 1.0:
        raise InputError("fraction: expected 0 to 1")
    place = fraction * (window - 1)
    rank = int(place)
    rest = place - rank
    state, following, finite = (0.0, 0, 0, 0.0), False, 0
    for i in range(size):
        finite = finite + 1 if np.isfinite(values[i]) else 0
        if finite < window:
            following = False
            continue
        part = values[i - window + 1 : i + 1]
        if following:
            state = _follow(part, values[i], values[i - window], rank, state)
        else:
            state, following = _fresh_rank(part, rank), True
        value, below, equal, above = state
        out[i] = value if below + equal > rank + 1 or rest == 0.0 else value + rest * (above - value)
    return out


@njit(cache=True, nogil=True)
def rolling_median(values, window):
    """Return the median of the last `window` values; NaN rule and cost are those of `rolling_quantile`."""
    return rolling_quantile(values, window, 0.5)
