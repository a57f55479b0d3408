"""Donchian breakout: buy a new high, leave when the close falls too far below the best close since."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from tasks.features.kernels import atr, rolling_max
from tasks.features.registry import recursion_bars
from tasks.strategies.strategy import CLOSE, Indicator, Params, Strategy, signal


class DonchianBreakoutParams(Params):
    """Channel and range lookbacks in bars, and the trailing distance in average true ranges."""

    channel: int = Field(20, ge=2, le=10_000, description="bars whose highest high must be exceeded")
    atr_lookback: int = Field(14, ge=1, le=5_000, description="bars of Wilder's average true range")
    atr_multiple: float = Field(3.0, gt=0, le=50, description="average true ranges below the best close that end it")


def channel_high(highs: np.ndarray, channel: int) -> np.ndarray:
    """Return the highest high of the `channel` bars *before* each bar; NaN in warm-up."""
    return np.concatenate([[np.nan], rolling_max(highs, channel)[:-1]])


@signal
def donchian_signal(
    bars: np.ndarray, rows: np.ndarray, use: np.ndarray, params: np.ndarray, entries: np.ndarray, exits: np.ndarray
) -> None:
    """Enter on a close above the channel; exit on a close below the best close since, less the trailing distance.

    The stop is a view, taken at the close like any other: it follows the signal's own state, so that it needs no
    engine that knows it. A stop inside the bar is `Costs.stop_loss`.
    """
    closes, ceiling, spread, multiple = bars[CLOSE], rows[use[0]], rows[use[1]], params[2]
    inside, best = False, 0.0
    for t in range(closes.size):
        entries[t] = exits[t] = False
        if inside:
            best = max(best, closes[t])
            if closes[t] < best - multiple * spread[t]:
                exits[t], inside = True, False
        elif closes[t] > ceiling[t] and not np.isnan(spread[t]):
            entries[t], inside, best = True, True, closes[t]


STRATEGY = Strategy(
    name="donchian_breakout",
    title="Donchian breakout with ATR stop",
    description="Bets that a new high goes on: long from a close above the channel of the bars before, until a close "
    "falls a multiple of the average true range below the best one since.",
    params=DonchianBreakoutParams,
    indicators=lambda p: (
        Indicator(channel_high, ("high",), (p.channel,)),
        Indicator(atr, ("high", "low", "close"), (p.atr_lookback,)),
    ),
    signal=donchian_signal,
    warm_up=lambda p: max(p.channel + 1, recursion_bars(1 / p.atr_lookback, p.atr_lookback + 1)),
    default_grid={
        "channel": (20, 40, 80, 160, 320),
        "atr_lookback": (14, 28),
        "atr_multiple": (2.0, 3.0, 4.0, 6.0),
    },
    path_dependent=True,
)
