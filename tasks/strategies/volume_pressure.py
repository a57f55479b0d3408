"""Volume pressure: follow the side that trades more.

The article describes it as buying when volume leans on the buyers' side. We define it so that it can be computed
from bars alone: a bar's whole volume counts for the side its body closed on, and

    pressure_t = Σ sign(close - open) · volume / Σ volume      over the last `lookback` bars, in [-1, 1].

Bullish on the bar where pressure rises through `entry`, bearish where it falls through `exit`. A window without any
volume has no pressure (NaN) and gives no signal.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from tasks.features.kernels import rolling_mean
from tasks.strategies.strategy import Indicator, Params, Strategy, signal


class VolumePressureParams(Params):
    """Lookback in bars and two levels of pressure; exit < entry, so that noise at one level does not trade."""

    lookback: int = Field(60, ge=2, le=10_000, description="bars the pressure is summed over")
    entry: float = Field(0.2, gt=-1, lt=1, description="pressure that turns the view bullish")
    exit: float = Field(0.0, gt=-1, lt=1, description="pressure that turns it bearish")

    @model_validator(mode="after")
    def _exit_is_lower(self) -> VolumePressureParams:
        if self.exit >= self.entry:
            raise ValueError(f"expected exit < entry, found {self.exit} and {self.entry}")
        return self


def volume_pressure(opens: np.ndarray, closes: np.ndarray, volumes: np.ndarray, window: int) -> np.ndarray:
    """Return signed volume over total volume of the last `window` bars; NaN in warm-up and without volume."""
    signed = rolling_mean(np.sign(closes - opens) * volumes, window)
    total = rolling_mean(volumes, window)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, signed / total, np.nan)


@signal
def pressure_signal(
    bars: np.ndarray, rows: np.ndarray, use: np.ndarray, params: np.ndarray, entries: np.ndarray, exits: np.ndarray
) -> None:
    """Enter where pressure rises through the entry level, exit where it falls through the exit level."""
    pressure, entry, leave = rows[use[0]], params[1], params[2]
    entries[0] = exits[0] = False
    for t in range(1, pressure.size):
        entries[t] = (pressure[t] > entry) & (pressure[t - 1] <= entry)
        exits[t] = (pressure[t] < leave) & (pressure[t - 1] >= leave)


STRATEGY = Strategy(
    name="volume_pressure",
    title="Volume pressure",
    description="Bets that a side that has been trading more goes on: long from the bar where signed volume over total "
    "volume rises through a level until it falls through a lower one.",
    params=VolumePressureParams,
    indicators=lambda p: (Indicator(volume_pressure, ("open", "close", "volume"), (p.lookback,)),),
    signal=pressure_signal,
    warm_up=lambda p: p.lookback,
    default_grid={
        "lookback": (15, 30, 60, 120, 240, 480),
        "entry": (0.05, 0.1, 0.15, 0.2, 0.3),
        "exit": (-0.2, -0.1, -0.05, 0.0),
    },
)
