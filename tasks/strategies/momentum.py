"""Time-series momentum: hold what has risen over the lookback, leave what has fallen."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from tasks.strategies.strategy import Indicator, Params, Strategy, signal


class MomentumParams(Params):
    """Lookback in bars and the return that counts as a move."""

    lookback: int = Field(120, ge=1, le=20_000, description="bars the return is measured over")
    threshold: float = Field(0.0, ge=0, lt=1, description="return beyond which there is a trend, as a fraction")


def past_return(closes: np.ndarray, lookback: int) -> np.ndarray:
    """Return the close over the close `lookback` bars before, less one; NaN in warm-up."""
    out = np.full(len(closes), np.nan)
    out[lookback:] = closes[lookback:] / closes[:-lookback] - 1
    return out


@signal
def momentum_signal(
    bars: np.ndarray, rows: np.ndarray, use: np.ndarray, params: np.ndarray, entries: np.ndarray, exits: np.ndarray
) -> None:
    """Enter where the past return rises above the threshold, exit where it falls below its negative."""
    moved, threshold = rows[use[0]], params[1]
    entries[0] = exits[0] = False
    for t in range(1, moved.size):
        entries[t] = (moved[t] > threshold) & (moved[t - 1] <= threshold)
        exits[t] = (moved[t] < -threshold) & (moved[t - 1] >= -threshold)


STRATEGY = Strategy(
    name="momentum",
    title="Time-series momentum",
    description="Bets that a trend goes on: long from the bar where the return over the lookback exceeds a threshold "
    "until it falls below the threshold's negative (Moskowitz, Ooi and Pedersen 2012).",
    params=MomentumParams,
    indicators=lambda p: (Indicator(past_return, ("close",), (p.lookback,)),),
    signal=momentum_signal,
    warm_up=lambda p: p.lookback + 1,
    default_grid={"lookback": (30, 60, 120, 240, 480, 960), "threshold": (0.0, 0.002, 0.005, 0.01, 0.02)},
)
