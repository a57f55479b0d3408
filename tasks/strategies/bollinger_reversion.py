"""Bollinger reversion: buy below the lower band, sell back at a level of the same scale."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from tasks.features.kernels import rolling_mean, rolling_std
from tasks.strategies.strategy import Indicator, Params, Strategy, signal


class BollingerReversionParams(Params):
    """Lookback in bars and two distances from the mean in standard deviations; −width < exit."""

    lookback: int = Field(20, ge=2, le=5_000, description="bars of mean and standard deviation")
    width: float = Field(2.0, gt=0, le=10, description="how many deviations below the mean turn the view bullish")
    exit: float = Field(0.0, ge=-10, le=10, description="deviations from the mean that turn it bearish; 0 is the mean")

    @model_validator(mode="after")
    def _exit_is_above_entry(self) -> BollingerReversionParams:
        if self.exit <= -self.width:
            raise ValueError(f"expected exit > -width, found {self.exit} and {self.width}")
        return self


def deviations(closes: np.ndarray, lookback: int) -> np.ndarray:
    """Return how many standard deviations (ddof 0, as Bollinger's) the close is from its mean; NaN where flat."""
    spread = rolling_std(closes, lookback, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, (closes - rolling_mean(closes, lookback)) / spread, np.nan)


@signal
def bollinger_signal(
    bars: np.ndarray, rows: np.ndarray, use: np.ndarray, params: np.ndarray, entries: np.ndarray, exits: np.ndarray
) -> None:
    """Enter where the close falls through the lower band, exit where it rises through the exit level."""
    distance, low, high = rows[use[0]], -params[1], params[2]
    entries[0] = exits[0] = False
    for t in range(1, distance.size):
        entries[t] = (distance[t] < low) & (distance[t - 1] >= low)
        exits[t] = (distance[t] > high) & (distance[t - 1] <= high)


STRATEGY = Strategy(
    name="bollinger_reversion",
    title="Bollinger reversion",
    description="Bets that prices far from their mean come back: long from the bar that closes below the lower band "
    "until one closes above the exit level.",
    params=BollingerReversionParams,
    indicators=lambda p: (Indicator(deviations, ("close",), (p.lookback,)),),
    signal=bollinger_signal,
    warm_up=lambda p: p.lookback,
    default_grid={
        "lookback": (10, 20, 40, 80, 160),
        "width": (1.5, 2.0, 2.5, 3.0),
        "exit": (-0.5, 0.0, 0.5, 1.0, 2.0),
    },
)
