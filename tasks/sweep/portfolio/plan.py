"""When a portfolio decides, and on which weights: at every decision from the window before it, never from later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.errors import InputError
from tasks.sweep.portfolio.panel import Panel
from tasks.sweep.portfolio.request import Method, Rebalance
from tasks.sweep.portfolio.weights import estimate

_UNITS = {"1d": "datetime64[D]", "1w": "datetime64[W]", "1mo": "datetime64[M]"}
#: NumPy's weeks begin on Thursday, the day of the epoch; three days on they begin on Monday.
_TO_MONDAY = np.timedelta64(3, "D")
#: A member with fewer bars than this share of the window is not weighed: it is not listed yet, or no longer.
MINIMUM_PRESENT = 0.5


@dataclass(frozen=True)
class Plan:
    """What each method wants to hold.

    Attributes:
        rows: (decisions,) rows of the panel at whose close is decided; each is filled on the row after it.
        weights: (methods, decisions, members), each decision summing to 1, or to 0 where no member can be weighed.
    """

    rows: np.ndarray
    weights: np.ndarray


def decision_rows(timestamps: np.ndarray, rebalance: Rebalance, lookback: int) -> np.ndarray:
    """Return the last row of every period that has `lookback` returns behind it and a row to be filled on after it."""
    shifted = timestamps + _TO_MONDAY if rebalance == "1w" else timestamps
    periods = shifted.astype(_UNITS[rebalance]).astype(np.int64)
    last = np.flatnonzero(np.diff(periods) != 0)
    return last[last >= lookback]


def plan_weights(
    panel: Panel, methods: Sequence[Method], *, rebalance: Rebalance, lookback: int, max_weight: float = 1.0
) -> Plan:
    """Weigh the members at every decision.

    Raises:
        InputError: No decision has a whole window behind it.
    """
    rows = decision_rows(panel.timestamps, rebalance, lookback)
    if not rows.size:
        raise InputError(
            f"portfolio: expected more than lookback {lookback} bars before a rebalancing every {rebalance}, found "
            f"{len(panel.timestamps)} bars in all; read more bars or shorten the lookback"
        )
    weights = np.zeros((len(methods), len(rows), len(panel.names)))
    for k, row in enumerate(rows):
        window = slice(row - lookback, row + 1)
        listed, returns = _known(panel, window)
        varied = listed & (np.nan_to_num(returns).std(axis=0) > 0)
        for m, method in enumerate(methods):
            chosen = listed if method == "equal" else varied
            if chosen.any():
                weights[m, k, chosen] = estimate(method, returns[:, chosen], max_weight)
    return Plan(rows, weights)


def _known(panel: Panel, window: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return which members can be weighed over a window, and the returns of all; an absent bar returns 0."""
    values = panel.valued[window]
    present = np.isfinite(panel.closes[window]).mean(axis=0)
    return np.isfinite(values[0]) & (present >= MINIMUM_PRESENT), values[1:] / values[:-1] - 1
