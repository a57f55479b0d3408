"""What chance does with the same trading: random entries, resampled returns, reshuffled trades.

Every function takes its own generator, so that a run with the same seed is the same run.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from tasks.sweep.costs import Costs
from tasks.sweep.metrics import sharpe_ratio

#: Values held at once by one resampling; more draws are made in turns.
_CELLS = 1_000_000
#: Values resampled in all: over long samples the bands are made of fewer draws.
_MOST = 40_000_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def random_entry_growth(
    trades: np.ndarray, opens: np.ndarray, costs: Costs, rng: np.random.Generator, draws: int = 500
) -> tuple[float, np.ndarray]:
    """Return what the trades made, and what as many trades of the same lengths made at random places.

    Both sides are counted the same way: fills at the open, proportional costs, all-in, compounding.

    Args:
        trades: (trades, 3) integers: entry bar, exit bar, side (1 long, -1 short).
        opens: Open prices of the span; the first bar is never filled on.
        costs: Proportional ones count; fixed fees depend on the size of the account and do not.
        rng: Source of chance.
        draws: Random placements.

    Returns:
        Log growth of the trades together, and (draws,) that of each placement.
    """
    entry, leave, side = trades[:, 0], trades[:, 1], trades[:, 2]
    held = leave - entry
    spare = len(opens) - 1 - int(held.sum())
    own = float(_log_growth(opens[entry], opens[leave], side, costs).sum())
    made = np.empty(draws)
    for k in range(draws):
        order = rng.permutation(len(trades))
        lengths = held[order]
        starts = 1 + np.sort(rng.integers(0, max(spare, 1), len(trades))) + np.cumsum(lengths) - lengths
        stops = np.minimum(starts + lengths, len(opens) - 1)
        made[k] = _log_growth(opens[np.minimum(starts, stops)], opens[stops], side[order], costs).sum()
    return own, made


def _log_growth(bought: np.ndarray, sold: np.ndarray, side: np.ndarray, costs: Costs) -> np.ndarray:
    """Return the log growth of round trips after slippage and fee on both fills; a ruined short counts as −50."""
    fee, slip = costs.fee_bps / 1e4, costs.slippage_bps / 1e4
    first, second = bought * (1 + side * slip), sold * (1 - side * slip)
    long = second * (1 - fee) / (first * (1 + fee))
    short = 1 + (first * (1 - fee) - second * (1 + fee)) / (first * (1 + fee))
    return np.log(np.maximum(np.where(side > 0, long, short), math.exp(-50)))


def bootstrap_paths(returns: np.ndarray, draws: int, rng: np.random.Generator, mean_block: float) -> np.ndarray:
    """Return (draws, bars) resampled returns: the stationary bootstrap of Politis and Romano (1994).

    Blocks have geometric lengths of mean `mean_block` and wrap around the end, so that volatility clusters survive.
    """
    count = len(returns)
    fresh = rng.random((draws, count)) < 1 / mean_block
    fresh[:, 0] = True
    place = np.arange(count)
    since = place - np.maximum.accumulate(np.where(fresh, place, 0), axis=1)
    starts = rng.integers(0, count, (draws, count))
    block = np.take_along_axis(starts, place - since, axis=1)
    return returns[(block + since) % count]


def bootstrap_figures(
    returns: np.ndarray, periods_per_year: float, rng: np.random.Generator, *, draws: int = 300, points: int = 120
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Resample the returns and return bands of the headline figures and a fan of equity curves.

    Blocks are ``bars ** (1/3)`` long on average, the rate that Politis and White (2004) give.

    Returns:
        ``figure, q05 … q95`` for total return, Sharpe and drawdown; and ``bar, q05 … q95`` of equity at `points` bars.
    """
    count = len(returns)
    draws = max(20, min(draws, _MOST // max(count, 1)))
    grid = np.unique(np.linspace(0, count - 1, points).astype(int))
    figures, curves = [], []
    for first in range(0, draws, max(1, _CELLS // count)):
        now = min(draws - first, max(1, _CELLS // count))
        paths = bootstrap_paths(returns, now, rng, max(1.0, count ** (1 / 3)))
        equity = np.cumprod(1 + paths, axis=1)
        dips = (equity / np.maximum.accumulate(np.maximum(equity, 1.0), axis=1) - 1).min(axis=1)
        ratios = [sharpe_ratio(path, periods_per_year) for path in paths]
        figures.append(np.column_stack([equity[:, -1] - 1, ratios, dips]))
        curves.append(equity[:, grid])
    return _bands(np.concatenate(figures), ("total_return", "sharpe", "max_drawdown")), _fan(curves, grid)


def reshuffled_drawdowns(trade_returns: np.ndarray, rng: np.random.Generator, draws: int = 500) -> np.ndarray:
    """Return the maximum drawdown, trade by trade, of the same trades in `draws` random orders."""
    worst = np.zeros(draws)
    for k in range(draws if len(trade_returns) else 0):
        equity = np.cumprod(1 + rng.permutation(trade_returns))
        worst[k] = (equity / np.maximum.accumulate(np.maximum(equity, 1.0)) - 1).min()
    return worst


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Return the quantiles every band shows, NaN where no value is finite."""
    finite = values[np.isfinite(values)]
    found = np.quantile(finite, QUANTILES) if len(finite) else np.full(len(QUANTILES), np.nan)
    return {f"q{round(100 * q):02d}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _bands(figures: np.ndarray, names: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame([{"figure": name, **quantiles(figures[:, k])} for k, name in enumerate(names)])


def _fan(curves: list[np.ndarray], grid: np.ndarray) -> pl.DataFrame:
    equity = np.concatenate(curves)
    return pl.DataFrame([{"bar": int(bar), **quantiles(equity[:, k])} for k, bar in enumerate(grid)])
