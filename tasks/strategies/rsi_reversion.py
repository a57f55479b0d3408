"""RSI reversion: buy what has fallen too fast, sell what has risen too fast."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from tasks.features.kernels import rsi
from tasks.features.registry import recursion_bars
from tasks.strategies.strategy import Indicator, Params, Strategy, signal


class RsiReversionParams(Params):
    """Lookback in bars and the two levels of the index; oversold < overbought."""

    lookback: int = Field(14, ge=2, le=5_000, description="bars of Wilder's relative strength index")
    oversold: float = Field(30.0, gt=0, lt=100, description="level whose breach downwards turns the view bullish")
    overbought: float = Field(60.0, gt=0, lt=100, description="level whose breach upwards turns it bearish")

    @model_validator(mode="after")
    def _levels_are_apart(self) -> RsiReversionParams:
        if self.oversold >= self.overbought:
            raise ValueError(f"expected oversold < overbought, found {self.oversold} and {self.overbought}")
        return self


@signal
def rsi_signal(
    bars: np.ndarray, rows: np.ndarray, use: np.ndarray, params: np.ndarray, entries: np.ndarray, exits: np.ndarray
) -> None:
    """Enter where the index falls through the lower level, exit where it rises through the upper one."""
    index, low, high = rows[use[0]], params[1], params[2]
    entries[0] = exits[0] = False
    for t in range(1, index.size):
        entries[t] = (index[t] < low) & (index[t - 1] >= low)
        exits[t] = (index[t] > high) & (index[t - 1] <= high)


STRATEGY = Strategy(
    name="rsi_reversion",
    title="RSI reversion",
    description="Bets that a fast move is taken back: long from the bar where Wilder's RSI falls through the lower "
    "level until it rises through the upper one.",
    params=RsiReversionParams,
    indicators=lambda p: (Indicator(rsi, ("close",), (p.lookback,)),),
    signal=rsi_signal,
    warm_up=lambda p: recursion_bars(1 / p.lookback, p.lookback + 1),
    default_grid={
        "lookback": (7, 14, 21, 42),
        "oversold": (20.0, 25.0, 30.0, 35.0),
        "overbought": (50.0, 60.0, 70.0, 80.0),
    },
)
