"""Moving-average crossover: long while the fast average of the close is above the slow one."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from tasks.features.kernels import rolling_mean
from tasks.strategies.strategy import Indicator, Params, Strategy, signal


class MaCrossoverParams(Params):
    """Windows of the two simple moving averages, in bars; fast < slow."""

    fast: int = Field(10, ge=1, le=5_000, description="bars in the fast average")
    slow: int = Field(30, ge=2, le=10_000, description="bars in the slow average")

    @model_validator(mode="after")
    def _fast_is_faster(self) -> MaCrossoverParams:
        if self.fast >= self.slow:
            raise ValueError(f"expected fast < slow, found {self.fast} and {self.slow}")
        return self


@signal
def crossover_signal(
    bars: np.ndarray, rows: np.ndarray, use: np.ndarray, params: np.ndarray, entries: np.ndarray, exits: np.ndarray
) -> None:
    """Enter on the bar where fast crosses above slow, exit where it crosses below; touching is not crossing."""
    fast, slow = rows[use[0]], rows[use[1]]
    entries[0] = exits[0] = False
    for t in range(1, fast.size):
        entries[t] = (fast[t] > slow[t]) & (fast[t - 1] <= slow[t - 1])
        exits[t] = (fast[t] < slow[t]) & (fast[t - 1] >= slow[t - 1])


STRATEGY = Strategy(
    name="ma_crossover",
    title="Moving-average crossover",
    description="Follows the trend: long from the bar the fast average crosses above the slow one until it crosses "
    "back.",
    params=MaCrossoverParams,
    indicators=lambda p: (
        Indicator(rolling_mean, ("close",), (p.fast,)),
        Indicator(rolling_mean, ("close",), (p.slow,)),
    ),
    signal=crossover_signal,
    warm_up=lambda p: p.slow,
    default_grid={"fast": (5, 10, 15, 20, 30, 45, 60), "slow": (30, 60, 90, 120, 180, 240, 360)},
)
