"""Rolling order statistics, by keeping the rank of every value of the window.

A bar that enters or leaves moves each rank by at most one, whatever the order: one pass of comparisons and additions
without a branch, which the machine makes many at a time. For the windows of indicators that beats sorted windows,
heaps and skip lists, whose branches are mispredicted. Equal values rank by age.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError

#: The rank of what is not in the window: no counting of bars brings it back to 0.
_NOWHERE = -(2**40)
#: The pass is over a multiple of this many slots, for what is left over would be done one at a time.
_SLOTS = 32


@njit(cache=True, nogil=True)
def _step(ring, bits, ranks, slot, leaving, below, above):
    """Update the ranks for the value that has replaced `leaving` in `slot`; return the bits at ranks below and above.

    Sums of bits instead of floats, for floats may not be added in another order and so not side by side.
    """
    entering = ring[slot]
    ranks[slot] = _NOWHERE
    low, high, smaller = 0, 0, 0
    for j in range(ring.size):
        rank = ranks[j] + (ring[j] > entering) - (ring[j] >= leaving)
        ranks[j] = rank
        smaller += ring[j] <= entering
        low += bits[j] if rank == below else 0
        high += bits[j] if rank == above else 0
    place = smaller - 1
    ranks[slot] = place
    return bits[slot] if place == below else low, bits[slot] if place == above else high


@njit(cache=True, nogil=True)
def rolling_quantile(values, window, fraction):
    """Return the quantile of the last `window` values, linear between neighbours (NumPy's and pandas' default).

    A window with a non-finite value gives NaN, as do the first ``window - 1`` bars. A bar costs one vectorised pass
    over the window; order statistics have no O(n) method. Raises InputError if `window` is below 1 or `fraction`
    outside [0, 1].
    """
    size = values.size
    low, high = np.full(size, np.nan), np.full(size, np.nan)
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    if not 0.0 <= fraction <= 1.0:
        raise InputError("fraction: expected 0 to 1")
    below = int(fraction * (window - 1))
    above, rest = min(below + 1, window - 1), fraction * (window - 1) - below
    low_bits, high_bits = low.view(np.int64), high.view(np.int64)
    slots = -(-window // _SLOTS) * _SLOTS
    ring, ranks = np.full(slots, np.inf), np.full(slots, _NOWHERE)
    bits = ring.view(np.int64)
    ranks[:window] = np.arange(window)
    slot, last_bad = 0, -1
    for i in range(size):
        leaving = ring[slot]
        ring[slot] = values[i]
        if not np.isfinite(values[i]):
            ring[slot], last_bad = np.inf, i
        at_below, at_above = _step(ring, bits, ranks, slot, leaving, below, above)
        if i - last_bad >= window:
            low_bits[i], high_bits[i] = at_below, at_above
        slot = slot + 1 if slot + 1 < window else 0
    for i in range(size):
        low[i] += rest * (high[i] - low[i])
    return low


@njit(cache=True, nogil=True)
def rolling_median(values, window):
    """Return the median of the last `window` values; NaN rule and cost are those of `rolling_quantile`."""
    return rolling_quantile(values, window, 0.5)
