"""Weights from a window of returns. The only module that imports skfolio."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from tasks.sweep.portfolio.request import Method

#: A weight below this is a solver's rounding and counts as none.
_NOTHING = 1e-6


def estimate(method: Method, returns: np.ndarray, max_weight: float = 1.0) -> np.ndarray:
    """Return long-only weights that sum to 1.

    Covariances are shrunk towards a multiple of the identity (Ledoit and Wolf, 2004), because a sample covariance of
    few returns makes an optimiser bet on its errors. Mean-variance is the highest ratio of mean to deviation; where
    that has no solution, because no mean is above zero or so little that the solver gives up, minimum variance takes
    its place.

    Args:
        method: How.
        returns: (bars, members) simple returns; every member varies.
        max_weight: Most of one member for the methods that optimise; at least an equal share.
    """
    members = returns.shape[1]
    if members == 1 or method == "equal":
        return np.full(members, 1 / members)
    scaled = returns / returns.std()  # returns of a minute are so small that the solver's tolerances would matter
    limit = max(max_weight, 1 / members)
    if method == "mean_variance":
        from skfolio.exceptions import ConvexOptimizationError

        if returns.mean(axis=0).max() > 0:
            with suppress(ConvexOptimizationError):
                return _fitted(method, scaled, limit)
        method = "minimum_variance"
    return _fitted(method, scaled, limit)


def _fitted(method: Method, returns: np.ndarray, max_weight: float) -> np.ndarray:
    with warnings.catch_warnings():
        # Said where the best ratio is hardly above zero; against another solver the weights were equal to 1e-3.
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        weights = np.asarray(_model(method, max_weight).fit(returns).weights_)
    weights = np.where(weights < _NOTHING, 0.0, weights)
    return weights / weights.sum()


@cache
def _model(method: Method, max_weight: float) -> Any:
    from skfolio.moments import EmpiricalCovariance, LedoitWolf  # with scikit-learn and cvxpy: seconds to load
    from skfolio.optimization import HierarchicalRiskParity, InverseVolatility, MeanRisk, ObjectiveFunction
    from skfolio.prior import EmpiricalPrior

    prior = EmpiricalPrior(covariance_estimator=LedoitWolf())
    if method == "inverse_volatility":
        # Members that move as one make the matrix singular, which does not matter where only its diagonal is read.
        return InverseVolatility(
            prior_estimator=EmpiricalPrior(covariance_estimator=EmpiricalCovariance(nearest=False))
        )
    if method == "hierarchical_risk_parity":
        return HierarchicalRiskParity(prior_estimator=prior, max_weights=max_weight)
    goal = ObjectiveFunction.MAXIMIZE_RATIO if method == "mean_variance" else ObjectiveFunction.MINIMIZE_RISK
    return MeanRisk(objective_function=goal, prior_estimator=prior, max_weights=max_weight)
