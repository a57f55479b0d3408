"""Exact ties stay ties: what docs/ties.md tells, kept true."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import numpy as np
from vectorbt.generic import dispatch

from tasks.features.kernels import rolling_mean


def walk_of_ticks(rows: int = 3_000) -> np.ndarray:
    """Return prices that move by one tick of 0.1 or not at all, so that averages tie all the time."""
    rng = np.random.default_rng(0)
    return np.round(100 + np.cumsum(rng.choice([-0.1, 0.0, 0.1], rows)), 1)


def exact_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of each window as an exact fraction, rounded once."""
    sums = list(accumulate(map(Fraction, values.tolist()), initial=Fraction(0)))
    means = [float((b - a) / window) for a, b in zip(sums, sums[window:], strict=False)]
    return np.array([np.nan] * (window - 1) + means)


def test_our_averages_are_exact_and_vectorbts_are_not() -> None:
    """Ours equal exact fractions to the last bit; VectorBT's cumulative sums turn hundreds of ties into crossings."""
    close = walk_of_ticks()
    windows = range(2, 22)
    ours = {window: rolling_mean(close, window) for window in windows}
    theirs = {w: dispatch.rolling_mean(close[:, None], w, engine="rust")[:, 0] for w in windows}
    exact = {window: exact_mean(close, window) for window in windows}
    for window in windows:
        assert np.array_equal(ours[window], exact[window], equal_nan=True)
    pairs = [(fast, slow) for fast in windows for slow in windows if fast < slow]
    differing = sum(((theirs[f] > theirs[s]) != (exact[f] > exact[s])).any() for f, s in pairs)
    assert differing > len(pairs) / 2


def test_the_tie_of_the_document() -> None:
    """99.9, 100, 99.9, 100: both averages are 99.95, and one of VectorBT's is above the other by then."""
    close = walk_of_ticks()
    t = 21
    assert close[t - 3 : t + 1].tolist() == [99.9, 100.0, 99.9, 100.0]
    assert rolling_mean(close, 2)[t] == rolling_mean(close, 4)[t] == 99.95
    fast, slow = (dispatch.rolling_mean(close[:, None], w, engine="rust")[t, 0] for w in (2, 4))
    assert fast > slow
