"""One portfolio from prices to verdict: weigh, rebalance, measure, and ask whether anything beats equal weight."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl

from tasks.sweep.chance import bootstrap_paths
from tasks.sweep.metrics import annual_return, drawdowns, sharpe_ratio, sortino_ratio
from tasks.sweep.portfolio.panel import Panel
from tasks.sweep.portfolio.plan import Plan, plan_weights
from tasks.sweep.portfolio.rebalance import Rebalanced, rebalance
from tasks.sweep.portfolio.request import PortfolioRequest
from tasks.sweep.portfolio.result import EQUITY, WEIGHTS, PortfolioResult

#: Resampled histories behind the verdict; fewer over long ones, where rows drawn in all would pass the limit.
DRAWS, FEWEST_DRAWS, MOST_ROWS = 1_000, 300, 100_000_000
#: A method beats equal weight where luck explains its lead with less than 5 %, shared among the methods tried.
CONFIDENCE = 0.95


def study(
    panel: Panel,
    request: PortfolioRequest,
    *,
    labels: Mapping[str, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> PortfolioResult:
    """Run every method of a request over the same members and time.

    Args:
        panel: The members' prices.
        request: What is asked.
        labels: What members are called on a page, where not by their name.
        provenance: Goes into the record as it is (code version, lake version).

    Raises:
        InputError: Too few bars for a single decision.
    """
    methods = request.ordered_methods
    plan = plan_weights(
        panel, methods, rebalance=request.rebalance, lookback=request.lookback, max_weight=request.max_weight
    )
    done = rebalance(panel, plan, request.costs)
    span = slice(int(plan.rows[0]), None)
    growth = done.values[span] / request.costs.initial_cash
    alone: dict[str, dict[str, float]] = {
        name: _figures(m, growth, done, plan, panel.periods_per_year) for m, name in enumerate(methods)
    }
    metrics = _against_equal(alone, growth, request.seed)
    verdict, passed = _judge(metrics)
    return PortfolioResult(
        run_id=f"portfolio-{_key(panel, request)[:12]}",
        kind="symbols" if request.symbols else "runs",
        interval=request.interval,
        members=panel.names,
        labels=tuple((labels or {}).get(name, name) for name in panel.names),
        methods=methods,
        weights=_weights_frame(panel, plan, done, methods),
        equity=_equity_frame(panel, growth, done.traded[span], span, methods),
        metrics=metrics,
        verdict=verdict,
        passed=passed,
        record=_record(panel, request, plan, provenance or {}),
    )


def _figures(m: int, growth: np.ndarray, done: Rebalanced, plan: Plan, periods_per_year: float) -> dict[str, float]:
    """Return the figures of one method from the first decision on."""
    equity = growth[:, m]
    returns = equity[1:] / equity[:-1] - 1
    shares = plan.weights[m]
    squared = (shares**2).sum(axis=1)
    total = float(equity[-1] - 1)
    return {
        "total_return": total,
        "annual_return": annual_return(total, len(returns), periods_per_year),
        "volatility": float(returns.std(ddof=1)) * math.sqrt(periods_per_year) if len(returns) > 1 else math.nan,
        "sharpe": sharpe_ratio(returns, periods_per_year),
        "sortino": sortino_ratio(returns, periods_per_year),
        "max_drawdown": float(drawdowns(equity).min()),
        "turnover": float(done.traded[:, m].sum()),
        "fees": float(done.fees[m]),
        "slippage_paid": float(done.slippage[m]),
        "orders": float(done.orders[m]),
        "orders_skipped": float(done.skipped[m]),
        "effective_members": float((1 / squared[squared > 0]).mean()) if (squared > 0).any() else 0.0,
    }


def _against_equal(metrics: dict[str, dict[str, float]], growth: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    """Add how often a resampled history takes a method's lead in Sharpe over equal weight away.

    Both curves are resampled together, in blocks of ``rows ** (1/3)`` on average, so that what they share cancels out.
    """
    returns = growth[1:] / growth[:-1] - 1
    rng, rows = np.random.default_rng(seed), len(returns)
    beaten, place = np.zeros(returns.shape[1]), np.arange(rows)
    draws = max(FEWEST_DRAWS, min(DRAWS, MOST_ROWS // rows))
    for _ in range(draws):
        drawn = returns[bootstrap_paths(place, 1, rng, max(1.0, rows ** (1 / 3)))[0]]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = drawn.mean(axis=0) / drawn.std(axis=0, ddof=1)
        beaten += ~(ratios > ratios[0])
    chances = {name: float(beaten[m] / draws) for m, name in enumerate(metrics)}
    equal = metrics["equal"]["sharpe"]
    return {
        name: figures | ({} if name == "equal" else {"lead": figures["sharpe"] - equal, "lead_lost": chances[name]})
        for name, figures in metrics.items()
    }


def _judge(metrics: Mapping[str, Mapping[str, float]]) -> tuple[str, bool]:
    """Say which method beats equal weight after costs, or that none does."""
    rivals = {name: figures for name, figures in metrics.items() if name != "equal"}
    if not rivals:
        return "Equal weight alone was run; there is nothing to hold it against.", False
    allowed = (1 - CONFIDENCE) / len(rivals)
    name = max(rivals, key=lambda rival: _rank(rivals[rival], allowed))
    best, called = rivals[name], name.replace("mean_", "mean-").replace("_", " ")
    figures = f"Sharpe {_signed(best['sharpe'])} against {_signed(metrics['equal']['sharpe'])}, after costs"
    luck = f"{100 * best['lead_lost']:.1f} % of resampled histories take the lead away (allowed {100 * allowed:.3g} %)"
    if not best["lead"] > 0:
        return f"Nothing beats equal weight: the closest is {called}, {figures}.", False
    if best["lead_lost"] < allowed:
        return f"{called.capitalize()} beats equal weight: {figures}; {luck}.", True
    return f"Nothing beats equal weight for sure: {called} leads, {figures}, but {luck}.", False


def _rank(figures: Mapping[str, float], allowed: float) -> tuple[bool, float]:
    """Return what the best method is the highest of: a lead that is no luck, then the lead itself."""
    lead = figures["lead"] if math.isfinite(figures["lead"]) else -math.inf
    return lead > 0 and figures["lead_lost"] < allowed, lead


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _weights_frame(panel: Panel, plan: Plan, done: Rebalanced, methods: tuple[str, ...]) -> pl.DataFrame:
    count, decisions, members = plan.weights.shape
    across = np.tile(np.repeat(plan.rows, members), count)
    return pl.DataFrame(
        {
            "method": np.repeat(np.array(methods, dtype=object), decisions * members).tolist(),
            "timestamp": _stamps(panel.timestamps[across]),
            "filled_at": _stamps(panel.timestamps[across + 1]),
            "member": list(panel.names) * (count * decisions),
            "target": plan.weights.ravel(),
            "held": done.held.ravel(),
        },
        schema=WEIGHTS,
    )


def _equity_frame(
    panel: Panel, growth: np.ndarray, traded: np.ndarray, span: slice, methods: tuple[str, ...]
) -> pl.DataFrame:
    stamps = _stamps(panel.timestamps[span])
    parts = [
        pl.DataFrame(
            {
                "method": [name] * len(stamps),
                "timestamp": stamps,
                "equity": growth[:, m],
                "drawdown": drawdowns(growth[:, m]),
                "turnover": traded[:, m],
            },
            schema=EQUITY,
        )
        for m, name in enumerate(methods)
    ]
    return pl.concat(parts)


def _stamps(moments: np.ndarray) -> pl.Series:
    return pl.Series(moments.astype("datetime64[us]")).dt.replace_time_zone("UTC")


def _key(panel: Panel, request: PortfolioRequest) -> str:
    """Name the run by its content: the same question over the same prices has the same name everywhere."""
    told = request.model_dump_json(exclude={"lake_version", "start", "end"})
    arrays = (panel.timestamps, panel.fills, panel.closes, panel.ranges)
    return hashlib.sha256(told.encode() + b"".join(array.tobytes() for array in arrays)).hexdigest()


def _record(panel: Panel, request: PortfolioRequest, plan: Plan, provenance: Mapping[str, Any]) -> dict[str, Any]:
    asked = json.loads(request.model_dump_json(exclude={"symbols", "runs", "interval"}))
    return {
        **asked,
        "bars": len(panel.timestamps),
        "decisions": len(plan.rows),
        "absent_bars": {
            name: int(count)
            for name, count in zip(panel.names, (~np.isfinite(panel.closes)).sum(axis=0), strict=True)
            if count
        },
        "periods_per_year": panel.periods_per_year,
        "engine": "vectorbt, orders to target weights, cash shared",
        "weights": f"skfolio {version('skfolio')}, trailing window, covariances shrunk (Ledoit and Wolf)",
        **provenance,
    }
