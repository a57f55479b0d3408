"""Portfolios: weights from the past alone, and VectorBT's rebalancing against a loop written down by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from lake.maintenance import pinned
from lake.store import Lake
from tasks.errors import InputError
from tasks.sweep.costs import Costs
from tasks.sweep.portfolio.panel import Panel, join_members, read_panel
from tasks.sweep.portfolio.plan import Plan, decision_rows, plan_weights
from tasks.sweep.portfolio.rebalance import Rebalanced, rebalance, slippages
from tasks.sweep.portfolio.request import METHODS, Method, PortfolioRequest
from tasks.sweep.portfolio.store import load, save
from tasks.sweep.portfolio.study import study
from tasks.sweep.portfolio.weights import estimate

COSTS = Costs(fee_bps=8, slippage_bps=3, slippage_range=0.05, fixed_fee=0.5)
VOLATILITIES = (0.010, 0.015, 0.02, 0.04)


def make_panel(rows: int = 400, seed: int = 1, absent: float = 0.04, listed: int = 90) -> Panel:
    """Return daily prices of four members: holes here and there, the last member listed late."""
    rng = np.random.default_rng(seed)
    members = len(VOLATILITIES)
    moves = rng.normal(0.0006, VOLATILITIES, (rows, members)) + rng.normal(0, 0.006, (rows, 1))
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    fills = closes * np.exp(rng.normal(0, 0.002, (rows, members)))
    ranges = rng.uniform(0, 0.03, (rows, members))
    gone = rng.random((rows, members)) < absent
    gone[:listed, -1] = True
    gone[:, 0] = False  # so that every row has a bar
    for array in (closes, fills, ranges):
        array[gone] = np.nan
    stamps = np.datetime64("2024-01-01", "us") + np.arange(rows) * np.timedelta64(86_400_000_000, "us")
    return Panel(("A", "B", "C", "D"), stamps, fills, closes, ranges)


def by_hand(panel: Panel, plan: Plan, costs: Costs, method: int) -> dict[str, list[float] | float]:
    """Trade one method's plan in plain Python, without looking at how the engine does it."""
    cash, held, last = costs.initial_cash, [0.0] * len(panel.names), [float("nan")] * len(panel.names)
    values, fees, traded, slipped, orders, slip = [], 0.0, 0.0, 0.0, 0, slippages(panel, costs)
    decided = {int(row) + 1: plan.weights[method, k] for k, row in enumerate(plan.rows)}
    for row in range(len(panel.timestamps)):
        if row in decided:
            known = [
                float(panel.fills[row, n]) if np.isfinite(panel.fills[row, n]) else last[n] for n in range(len(held))
            ]
            before = cash + sum(held[n] * last[n] for n in range(len(held)) if held[n])
            worth = cash + sum(held[n] * known[n] for n in range(len(held)) if held[n])
            wanted = {
                n: decided[row][n] * worth - held[n] * known[n]
                for n in range(len(held))
                if np.isfinite(panel.fills[row, n])
            }
            for n, change in sorted(wanted.items(), key=lambda one: one[1]):
                price = known[n] * (1 + slip[row, n] * (1 if change > 0 else -1))
                quantity = abs(change) / known[n]
                if change > 0:
                    quantity = min(quantity, (cash - costs.fixed_fee) / (1 + costs.fee_bps / 1e4) / price)
                if quantity <= 1e-12:
                    continue
                fee = quantity * price * costs.fee_bps / 1e4 + costs.fixed_fee
                if change < 0 and quantity * price < fee:
                    continue  # a sale that does not earn its fee is left alone
                cash += -quantity * price - fee if change > 0 else quantity * price - fee
                held[n] += quantity if change > 0 else -quantity
                fees, orders, traded = fees + fee, orders + 1, traded + quantity * price / before
                slipped += quantity * abs(price - known[n])
        last = [float(panel.closes[row, n]) if np.isfinite(panel.closes[row, n]) else last[n] for n in range(len(held))]
        values.append(cash + sum(held[n] * last[n] for n in range(len(held)) if held[n]))
    return {"values": values, "fees": fees, "traded": traded, "slipped": slipped, "orders": orders}


def traded(panel: Panel) -> tuple[Plan, Rebalanced]:
    """Weigh and rebalance all methods monthly."""
    plan = plan_weights(panel, METHODS, rebalance="1mo", lookback=60)
    return plan, rebalance(panel, plan, COSTS)


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Four members with holes."""
    return make_panel()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rebalancing_equals_a_loop_by_hand(seed: int) -> None:
    """Values after each bar, fees, slippage, turnover and the number of orders equal plain Python to 1e-9."""
    panel = make_panel(seed=seed)
    rng = np.random.default_rng(seed)
    rows = decision_rows(panel.timestamps, "1w", 60)
    plan = Plan(rows, rng.dirichlet(np.full(4, 0.4), (2, len(rows))))
    done = rebalance(panel, plan, COSTS)
    for method in range(2):
        expected = by_hand(panel, plan, COSTS, method)
        np.testing.assert_allclose(done.values[:, method], expected["values"], rtol=1e-9)
        for name, found in (("fees", done.fees), ("slipped", done.slippage), ("orders", done.orders)):
            assert found[method] == pytest.approx(expected[name], rel=1e-9)
        assert done.traded[:, method].sum() == pytest.approx(expected["traded"], rel=1e-9)


def test_weights_never_read_the_future(panel: Panel) -> None:
    """Prices changed after a row change no weight decided up to that row, and no value up to it."""
    cut = 250
    later = np.arange(len(panel.timestamps))[:, None] > cut
    rng = np.random.default_rng(9)
    moved = np.where(later, rng.uniform(0.5, 2.0, panel.closes.shape), 1.0)
    other = Panel(panel.names, panel.timestamps, panel.fills * moved, panel.closes * moved, panel.ranges)
    (plan, done), (changed, changed_done) = traded(panel), traded(other)
    before = plan.rows <= cut
    assert before.sum() >= 5
    assert (~before).sum() >= 4
    np.testing.assert_array_equal(plan.weights[:, before], changed.weights[:, before])
    np.testing.assert_array_equal(done.values[: cut + 1], changed_done.values[: cut + 1])
    assert not np.allclose(plan.weights[:, ~before], changed.weights[:, ~before])


def test_the_past_before_the_window_is_forgotten(panel: Panel) -> None:
    """A decision depends on its own window alone: other prices before it change nothing, inside it they do."""
    row = int(decision_rows(panel.timestamps, "1mo", 60)[-1])
    early, inside = panel.closes.copy(), panel.closes.copy()
    early[: row - 62] *= 1.7
    inside[row - 20, 0] *= 1.2
    told = {"methods": METHODS[1:], "rebalance": "1mo", "lookback": 60}
    plain, same, other = (
        plan_weights(replace(panel, closes=closes), **told).weights[:, -1] for closes in (panel.closes, early, inside)
    )
    np.testing.assert_allclose(same, plain, rtol=1e-12)
    assert not np.allclose(other[0], plain[0])


def test_nothing_is_filled_where_there_is_no_bar() -> None:
    """A member without a bar on the row of the fills keeps its quantity and is counted, the others are traded."""
    panel = make_panel(absent=0.0, listed=0)
    plan = plan_weights(panel, METHODS, rebalance="1mo", lookback=60)
    row = int(plan.rows[5]) + 1
    closes, fills = panel.closes.copy(), panel.fills.copy()
    closes[row, 2] = fills[row, 2] = np.nan
    with_hole = replace(panel, closes=closes, fills=fills)
    done = rebalance(with_hole, plan, COSTS)
    whole = rebalance(panel, plan, COSTS)
    wanted = (plan.weights[:, 5, 2] > 0) | (whole.held[:, 4, 2] > 0)
    assert wanted.sum() >= 4
    assert done.skipped.tolist() == wanted.astype(int).tolist()
    assert whole.skipped.tolist() == [0] * len(METHODS)
    worth_before = done.held[:, 4, 2] * done.values[plan.rows[4] + 1]
    drift = panel.closes[row - 1, 2] / panel.closes[int(plan.rows[4]) + 1, 2]
    np.testing.assert_allclose(done.held[:, 5, 2] * done.values[row], worth_before * drift, rtol=1e-9)


def test_a_member_is_weighed_from_a_whole_window_on(panel: Panel) -> None:
    """A member listed on row 90 has no weight until the window lies behind its listing, and weight after it."""
    plan = plan_weights(panel, METHODS, rebalance="1mo", lookback=60)
    known = plan.rows - 60 >= np.flatnonzero(np.isfinite(panel.closes[:, 3]))[0]
    assert (plan.weights[:, ~known, 3] == 0).all()
    assert (plan.weights[:2, known, 3] > 0).all()
    np.testing.assert_allclose(plan.weights.sum(axis=2), 1.0)


def test_decisions_stand_at_the_end_of_their_period() -> None:
    """Weeks end on Sunday and months on their last day; the last bar of all cannot be filled and decides nothing."""
    stamps = np.datetime64("2024-01-01", "us") + np.arange(61) * np.timedelta64(1, "D")
    weekly, monthly = stamps[decision_rows(stamps, "1w", 0)], stamps[decision_rows(stamps, "1mo", 0)]
    assert {int((day.astype("datetime64[D]").astype(int) + 3) % 7) for day in weekly} == {6}
    assert [str(day)[:10] for day in monthly] == ["2024-01-31", "2024-02-29"]
    assert len(decision_rows(stamps, "1d", 20)) == 40


def test_weights_are_what_their_names_say() -> None:
    """Against closed forms on returns without correlation: 1/σ, 1/σ², and the lowest variance of any long mix."""
    rng = np.random.default_rng(4)
    raw = rng.normal(size=(4_000, 3))
    returns = np.linalg.qr(raw - raw.mean(axis=0))[0] * np.sqrt(4_000) * (0.01, 0.02, 0.04)
    sigma = returns.std(axis=0)
    np.testing.assert_allclose(estimate("inverse_volatility", returns), 1 / sigma / (1 / sigma).sum(), rtol=1e-6)
    np.testing.assert_allclose(estimate("minimum_variance", returns), sigma**-2 / (sigma**-2).sum(), rtol=0.02)
    np.testing.assert_allclose(estimate("hierarchical_risk_parity", returns).sum(), 1.0)
    drift = np.array([1e-4, 8e-4, 1e-4])
    ratio = drift / sigma**2
    np.testing.assert_allclose(estimate("mean_variance", returns + drift), ratio / ratio.sum(), rtol=0.03)
    assert estimate("mean_variance", returns + drift, max_weight=0.4).max() == pytest.approx(0.4, abs=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
def test_members_that_move_as_one_share_what_one_would_have(method: Method) -> None:
    """Twins make the covariance singular; every method still finds weights, without a word of warning."""
    returns = np.random.default_rng(6).normal(0.001, 0.01, (120, 2))
    weights = estimate(method, returns[:, [0, 0, 1]])
    assert weights.sum() == pytest.approx(1.0)
    assert np.isfinite(weights).all()
    if method in ("equal", "inverse_volatility"):
        assert weights[0] == pytest.approx(weights[1])


def test_where_no_mean_is_positive_mean_variance_is_minimum_variance() -> None:
    """The highest ratio of mean to deviation has no solution there, and the run goes on."""
    returns = np.random.default_rng(5).normal(-0.02, 0.01, (100, 3))
    np.testing.assert_array_equal(estimate("mean_variance", returns), estimate("minimum_variance", returns))


def test_a_member_that_does_not_move_is_weighed_by_equal_weight_alone() -> None:
    """A strategy without a trade in the window has no volatility to divide by: the others share its weight."""
    panel = make_panel(absent=0.0, listed=0)
    closes = panel.closes.copy()
    closes[:, 1] = 50.0
    weights = plan_weights(replace(panel, closes=closes), METHODS, rebalance="1mo", lookback=60).weights
    assert (weights[0, :, 1] == 0.25).all()
    assert (weights[1:, :, 1] == 0).all()


def test_noise_beats_equal_weight_hardly_ever() -> None:
    """Of twenty random histories without a difference between the members, at most three name a winner."""
    won = 0
    for seed in range(20):
        moves = np.random.default_rng(seed).normal(0.0003, 0.02, (200, 4))
        closes = 100 * np.exp(np.cumsum(moves, axis=0))
        stamps = np.datetime64("2024-01-01", "us") + np.arange(200) * np.timedelta64(86_400_000_000, "us")
        panel = Panel(("A", "B", "C", "D"), stamps, closes, closes, np.zeros_like(closes))
        asked = request(methods=("inverse_volatility",), rebalance="1mo", lookback=40)
        won += study(panel, asked).passed
    assert won <= 3


def request(**changes: object) -> PortfolioRequest:
    """Return a request for four symbols."""
    told = {"symbols": ("A", "B", "C", "D"), "interval": "1d", "rebalance": "1mo", "lookback": 60, "costs": COSTS}
    return PortfolioRequest(**told | changes)  # type: ignore[arg-type]


def test_a_real_edge_is_found() -> None:
    """Where one member of three has half the noise and all of the drift, the verdict names a method that saw it."""
    rng = np.random.default_rng(2)
    moves = rng.normal((0.002, 0.0, 0.0), (0.01, 0.03, 0.03), (900, 3))
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    stamps = np.datetime64("2022-01-01", "us") + np.arange(900) * np.timedelta64(86_400_000_000, "us")
    panel = Panel(("A", "B", "C"), stamps, closes, closes, np.zeros_like(closes))
    asked = request(symbols=("A", "B", "C"), methods=("minimum_variance", "mean_variance"))
    result = study(panel, asked)
    assert result.passed
    assert "beats equal weight" in result.verdict


def test_a_run_comes_back_from_the_lake_as_it_was(panel: Panel, tmp_path: Path) -> None:
    """Stored and loaded, a run is equal to itself; stored twice it is there once; an unknown name is refused."""
    result, lake = study(panel, request()), Lake(tmp_path)
    for _ in range(2):
        save(lake, result, datetime(2026, 1, 1, tzinfo=UTC))
    loaded = load(lake, result.run_id)
    assert loaded.weights.equals(result.weights)
    assert loaded.equity.equals(result.equity)
    assert replace(loaded, weights=result.weights, equity=result.equity) == result
    with pytest.raises(InputError, match="portfolio-unknown"):
        load(lake, "portfolio-unknown")


def test_the_bars_of_a_recorded_portfolio_stay_readable(panel: Panel, tmp_path: Path) -> None:
    """Maintenance keeps the version of the bars that a stored portfolio names."""
    lake = Lake(tmp_path)
    save(lake, study(panel, request(lake_version=3, methods=("equal",))), datetime(2026, 1, 1, tzinfo=UTC))
    assert pinned(lake) == {"klines/1d": {3}}


def test_equity_and_metrics_agree(panel: Panel) -> None:
    """The stored curve gives the stored figures, and the stored weights those that were planned."""
    result = study(panel, request())
    for name, figures in result.metrics.items():
        curve = result.equity.filter(pl.col("method") == name)
        returns = curve["equity"].to_numpy()[1:] / curve["equity"].to_numpy()[:-1] - 1
        assert curve["equity"][0] == 1.0
        assert figures["total_return"] == pytest.approx(curve["equity"][-1] - 1, rel=1e-12)
        assert figures["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5, rel=1e-9)
        assert figures["turnover"] == pytest.approx(curve["turnover"].sum(), rel=1e-12)
        assert figures["max_drawdown"] == curve["drawdown"].min() < 0
    targets = result.weights.group_by("method", "timestamp").agg(pl.col("target").sum())["target"].to_numpy()
    np.testing.assert_allclose(targets, 1.0)


def test_bars_of_the_lake_become_a_panel(bars: object, tmp_path: Path) -> None:
    """Symbols lie side by side on the union of their opens, NaN where one has no bar, filled at its own open."""
    lake = Lake(tmp_path)
    first, second = bars(300, seed=1, drop=(7, 8)), bars(300, seed=2, drop=(9,))  # type: ignore[operator]
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for symbol, frame in (("ONE", first), ("TWO", second)):
        lake.write_bars(frame, symbol=symbol, interval="1m", start=start, end=start + timedelta(hours=5))
    panel = read_panel(lake, PortfolioRequest(symbols=("ONE", "TWO"), interval="1m"))
    assert len(panel.timestamps) == 300
    assert np.isnan(panel.closes[[7, 8], 0]).all()
    assert np.isnan(panel.fills[9, 1])
    np.testing.assert_array_equal(panel.fills[np.isfinite(panel.fills[:, 0]), 0], first["open"].to_numpy())
    with pytest.raises(InputError, match="THREE"):
        read_panel(lake, PortfolioRequest(symbols=("ONE", "THREE"), interval="1m"))


def test_an_equity_curve_is_filled_a_bar_late() -> None:
    """A run has no open: an order on a row gets the curve's worth after that row, never the one decided on."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    curve = pl.DataFrame({"timestamp": [start + timedelta(days=k) for k in range(3)], "fill": [1.0, 1.1, 1.2]})
    curve = curve.with_columns(close="fill", range=pl.lit(0.0))
    panel = join_members({"run": curve, "other": curve})
    np.testing.assert_array_equal(panel.fills, panel.closes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbols": ("A",)},
        {"symbols": ("A", "A")},
        {"runs": ("x", "y")},
        {"costs": Costs(stop_loss=0.1)},
        {"symbols": (), "runs": ("x", "y")},
    ],
    ids=["one member", "twice the same", "both kinds", "a stop", "ranges of a curve"],
)
def test_what_cannot_be_kept_is_refused(wrong: dict[str, object]) -> None:
    """A request that the engine could only half obey is no request."""
    with pytest.raises(ValidationError, match="expected"):
        request(**wrong)


def test_too_short_a_history_is_refused(panel: Panel) -> None:
    """The message says how many bars there are and what to do."""
    with pytest.raises(InputError, match="shorten the lookback"):
        study(panel, request(lookback=1_000))
