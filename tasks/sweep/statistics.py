"""How much of a Sharpe ratio is luck: the published statistics, each a pure function.

Sharpe ratios here are **per period**, not annualised; `kurtosis` is 3 for a normal distribution.

Sources: Bailey and López de Prado, "The Sharpe Ratio Efficient Frontier" (2012) for the probabilistic Sharpe ratio
and the minimum track record length; the same, "The Deflated Sharpe Ratio" (2014) for the expected maximum and the
deflated ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Moments:
    """What the statistics need to know of a series of returns.

    Attributes:
        count: Observations.
        sharpe: Mean over standard deviation, per period; NaN where the deviation is zero.
        skewness: Third standardised moment.
        kurtosis: Fourth standardised moment.
    """

    count: int
    sharpe: float
    skewness: float
    kurtosis: float


def moments(returns: np.ndarray) -> Moments:
    """Return count, per-period Sharpe (ddof 1), skewness and kurtosis (both population moments) of `returns`."""
    centred = returns - returns.mean() if len(returns) else returns
    variance = float(np.mean(centred**2)) if len(returns) else 0.0
    if len(returns) < 2 or np.ptp(returns) == 0:
        return Moments(len(returns), math.nan, math.nan, math.nan)
    sharpe = float(returns.mean()) / float(returns.std(ddof=1))
    return Moments(
        len(returns),
        sharpe,
        float(np.mean(centred**3)) / variance**1.5,
        float(np.mean(centred**4)) / variance**2,
    )


def probabilistic_sharpe(of: Moments, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above `benchmark`, given length, skewness and fat tails."""
    spread = _estimate_variance(of)
    if not spread > 0 or of.count < 2:
        return math.nan
    return _NORMAL.cdf((of.sharpe - benchmark) * math.sqrt(of.count - 1) / math.sqrt(spread))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Return the best Sharpe ratio to expect of `trials` independent skill-less trials whose ratios vary so much."""
    if trials < 2:
        return 0.0
    high = _NORMAL.inv_cdf(1 - 1 / trials)
    higher = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - _EULER) * high + _EULER * higher)


def deflated_sharpe(of: Moments, trials: int, variance: float) -> float:
    """Return the probability that the true Sharpe ratio is above what the best of `trials` would show by luck."""
    return probabilistic_sharpe(of, expected_maximum_sharpe(trials, variance))


def minimum_track_record(of: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Return how many observations it takes to say with `confidence` that the ratio is above `benchmark`.

    Infinite where the observed ratio is not above it, NaN where it is not defined.
    """
    if math.isnan(of.sharpe):
        return math.nan
    if of.sharpe <= benchmark:
        return math.inf
    return 1 + _estimate_variance(of) * (_NORMAL.inv_cdf(confidence) / (of.sharpe - benchmark)) ** 2


def _estimate_variance(of: Moments) -> float:
    return 1 - of.skewness * of.sharpe + (of.kurtosis - 1) / 4 * of.sharpe**2
