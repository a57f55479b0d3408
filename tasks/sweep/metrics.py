"""Headline figures of one series of returns and its trades. Fractions, never per cent; drawdown ≤ 0."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import polars as pl

#: A drawdown from here on is that of an account that was lost. What it would owe afterwards, and gain again, is a
#: multiple of nearly nothing: no ratio can be made of it.
RUIN = -1 + 1e-9


def is_lost(returns: np.ndarray) -> bool:
    """Return whether an account with these returns was lost: it had nothing left, or owed something."""
    return bool((returns <= RUIN).any())


def chained(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return the returns of several spans one after another; after the loss of the account nothing comes."""
    returns = np.concatenate(list(parts))
    lost = np.flatnonzero(returns <= RUIN)
    returns[lost[0] + 1 if lost.size else len(returns) :] = 0.0
    return returns


def sharpe_ratio(returns: np.ndarray, periods_per_year: float) -> float:
    """Return the annualised Sharpe ratio (no risk-free rate, ddof 1); NaN where nothing varies or all was lost."""
    if len(returns) < 2 or np.ptp(returns) == 0 or is_lost(returns):
        return math.nan
    return float(returns.mean() / returns.std(ddof=1) * math.sqrt(periods_per_year))


def sortino_ratio(returns: np.ndarray, periods_per_year: float) -> float:
    """Return mean over downside deviation (against zero), annualised; NaN without a losing period."""
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2))) if len(returns) else 0.0
    return float(returns.mean()) / downside * math.sqrt(periods_per_year) if downside > 0 else math.nan


def drawdowns(equity: np.ndarray) -> np.ndarray:
    """Return how far each point is below the highest before it, as a fraction ≤ 0."""
    return equity / np.maximum.accumulate(np.maximum(equity, 1.0)) - 1.0


def annual_return(total: float, periods: int, periods_per_year: float) -> float:
    """Return the growth a year that compounds to `total`; −1 where everything was lost."""
    if periods == 0:
        return math.nan
    log_growth = math.log1p(total) * periods_per_year / periods if total > -1 else -math.inf
    return math.expm1(log_growth) if log_growth < 700 else math.inf


def compute_metrics(
    returns: np.ndarray,
    trades: pl.DataFrame,
    *,
    exposure: float,
    initial_cash: float,
    benchmark_returns: np.ndarray,
    periods_per_year: float,
) -> dict[str, float]:
    """Return the headline figures.

    Args:
        returns: Simple returns a bar.
        trades: `result.TRADES` rows of the same span.
        exposure: Share of bars that end with a position.
        initial_cash: What each window started with; `turnover` is traded value over it.
        benchmark_returns: Buy and hold over the same bars, same costs.
        periods_per_year: Bars a year.
    """
    equity, count = np.cumprod(1 + returns), len(trades)
    total = float(equity[-1] - 1)
    pnl = trades["pnl"].to_numpy()
    lost = float(-pnl[pnl < 0].sum())
    value = trades["quantity"] * (trades["entry_price"] + trades["exit_price"])
    return {
        "total_return": total,
        "annual_return": annual_return(total, len(returns), periods_per_year),
        "sharpe": sharpe_ratio(returns, periods_per_year),
        "sortino": sortino_ratio(returns, periods_per_year),
        "max_drawdown": float(drawdowns(equity).min()),
        "trades": float(count),
        "win_rate": float((pnl > 0).mean()) if count else math.nan,
        "profit_factor": float(pnl[pnl > 0].sum()) / lost if lost > 0 else math.nan,
        "mean_trade_return": float(trades["return"].to_numpy().mean()) if count else math.nan,
        "exposure": exposure,
        "turnover": float(value.sum()) / initial_cash,
        "fees": float(trades["fees"].sum()),
        "benchmark_return": float(np.prod(1 + benchmark_returns) - 1),
        "benchmark_sharpe": sharpe_ratio(benchmark_returns, periods_per_year),
    }
