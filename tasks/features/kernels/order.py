"""Rolling order statistics, by following one value of the window and counting what lies below it.

When one bar enters and another leaves, the rank of the value that is followed moves by one at most. Where it stays in
place a bar costs a few comparisons; where it does not, the neighbour is found in one pass over the window, which the
machine makes many values at a time. Up to windows of thousands that beats sorted windows, heaps and skip lists.

Values are compared as whole numbers of the same order (`_key`), for unlike floats these may be compared side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks.errors import InputError

_SIGN = np.uint64(2**63)
_ONE = np.uint64(1)
#: Above the key of every number: a missing value, or no value yet.
_MISSING = np.uint64(2**64 - 1)
#: A window is filled up to a multiple of this many slots, for what is left over would be compared one at a time.
_SLOTS = 32


@njit(cache=True, nogil=True, inline="always")
def _key(bits):
    """Return a whole number that is greater exactly where the float of these bits is."""
    return ~bits if bits & _SIGN else bits | _SIGN


@njit(cache=True, nogil=True, inline="always")
def _bits(key):
    """Return the bits of the float with that `_key`."""
    return key & ~_SIGN if key & _SIGN else ~key


@njit(cache=True, nogil=True)
def _next_above(keys, key):
    """Return the smallest key above: differences of those not above wrap around to the largest numbers."""
    first, nearest = key + _ONE, _MISSING
    for j in range(keys.size):
        nearest = min(nearest, keys[j] - first)
    return first + nearest


@njit(cache=True, nogil=True)
def _next_below(keys, key):
    """Return the largest key below; the mirror of `_next_above`."""
    last, nearest = key - _ONE, _MISSING
    for j in range(keys.size):
        nearest = min(nearest, last - keys[j])
    return last - nearest


@njit(cache=True, nogil=True)
def _count(keys, key):
    count = 0
    for j in range(keys.size):
        count += keys[j] == key
    return count


@njit(cache=True, nogil=True)
def _follow(values, window, rank, rest, out):
    """Fill `out` with the value at `rank` of each window, and the share `rest` of the way from there to the next one.

    Followed is the key `at` that rank, with how many keys are below it and how many equal, and the next key above it,
    which is looked for only when it is wanted.
    """
    keys = np.full(-(-window // _SLOTS) * _SLOTS, _MISSING)
    at, below, equal, above, stale = _MISSING, 0, keys.size, _MISSING, True
    number = np.empty(1)
    bits = number.view(np.uint64)
    slot, last_bad = 0, -1
    for i in range(values.size):
        number[0] = values[i] + 0.0  # turns -0.0 into its equal 0.0
        entering, leaving = _key(bits[0]), keys[slot]
        if not np.isfinite(values[i]):
            entering, last_bad = _MISSING, i
        keys[slot] = entering
        slot = slot + 1 if slot + 1 < window else 0
        below += (entering < at) - (leaving < at)
        equal += (entering == at) - (leaving == at)
        stale |= (leaving == above) | ((entering > at) & (entering < above))
        if below > rank:
            if equal > 0:
                above, stale = at, False
            at = _next_below(keys, at)
            equal = _count(keys, at)
            below -= equal
        elif below + equal <= rank:
            below += equal
            at = _next_above(keys, at) if stale else above
            equal, stale = _count(keys, at), True
        if i - last_bad < window:
            out[i] = np.nan
            continue
        bits[0] = _bits(at)
        value = number[0]
        if rest > 0.0 and below + equal <= rank + 1:
            if stale:
                above, stale = _next_above(keys, at), False
            bits[0] = _bits(above)
            value += rest * (number[0] - value)
        out[i] = value


@njit(cache=True, nogil=True)
def rolling_quantile(values, window, fraction):
    """Return the quantile of the last `window` values, linear between neighbours (NumPy's and pandas' default).

    A window with a non-finite value gives NaN, as do the first ``window - 1`` bars. A bar costs a few comparisons, and
    one vectorised pass over the window where the quantile moves; order statistics have no O(n) method. Raises
    InputError if `window` is below 1 or `fraction` outside [0, 1].
    """
    if window < 1:
        raise InputError("window: expected at least 1 bar")
    if not 0.0 <= fraction <= 1.0:
        raise InputError("fraction: expected 0 to 1")
    out, place = np.empty(values.size), fraction * (window - 1)
    _follow(values, window, int(place), place - int(place), out)
    return out


@njit(cache=True, nogil=True)
def rolling_median(values, window):
    """Return the median of the last `window` values; NaN rule and cost are those of `rolling_quantile`."""
    return rolling_quantile(values, window, 0.5)
