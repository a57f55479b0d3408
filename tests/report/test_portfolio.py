"""The portfolio's page: every method, every member, and nothing that is not so."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl

from tasks.report.bundle import MAX_PAGE_BYTES
from tasks.report.charts.portfolio import FILLS, MAX_POINTS, REST, growth_figure, weights_figure
from tasks.report.portfolio import TITLES, portfolio_page
from tasks.sweep.portfolio.request import METHODS
from tasks.sweep.portfolio.result import EQUITY, WEIGHTS, PortfolioResult

START = datetime(2024, 1, 1, tzinfo=UTC)


def make_equity(rows: int) -> pl.DataFrame:
    """Return a random curve of every method."""
    rng = np.random.default_rng(1)
    parts = []
    for method in METHODS:
        equity = np.cumprod(1 + rng.normal(0.0004, 0.01, rows))
        drawdown = equity / np.maximum.accumulate(np.maximum(equity, 1.0)) - 1
        stamps = [START + timedelta(hours=k) for k in range(rows)]
        columns = ([method] * rows, stamps, equity, drawdown, np.zeros(rows))
        parts.append(pl.DataFrame(dict(zip(EQUITY, columns, strict=True)), schema=EQUITY))
    return pl.concat(parts)


def make_weights(members: tuple[str, ...]) -> pl.DataFrame:
    """Return three decisions of every method, all cash but a tenth shared equally, unequal by place."""
    days = [START + timedelta(days=7 * k) for k in range(3)]
    size = 0.9 / sum(range(1, len(members) + 1))
    rows = [
        (method, day, day + timedelta(hours=1), member, size * (k + 1), size * (k + 1))
        for method, day, (k, member) in product(METHODS, days, enumerate(members))
    ]
    return pl.DataFrame(rows, schema=WEIGHTS, orient="row")


def make_result(members: tuple[str, ...] = ("BTC<b>", "ETH")) -> PortfolioResult:
    """Return a finished portfolio."""
    figures = {"total_return": -0.1234, "sharpe": -1.5, "fees": 1_234.5, "slippage_paid": 65.5, "turnover": 3.0}
    rest = dict.fromkeys(("annual_return", "volatility", "max_drawdown", "effective_members"), 0.5)
    counts = {"orders": 2_000.0, "orders_skipped": 7.0}
    lead = {"lead": -0.25, "lead_lost": 0.875}
    return PortfolioResult(
        run_id="portfolio-abc",
        kind="runs",
        interval="1h",
        members=members,
        labels=members,
        methods=METHODS,
        weights=make_weights(members),
        equity=make_equity(200),
        metrics={method: figures | rest | counts | ({} if method == "equal" else lead) for method in METHODS},
        verdict="Nothing beats equal weight.",
        passed=False,
        record={
            "decisions": 3,
            "lookback": 250,
            "rebalance": "1w",
            "absent_bars": {"ETH": 1_111},
            "costs": {"initial_cash": 10_000.0},
        },
    )


def test_the_page_names_every_method_and_figure() -> None:
    """Verdict, five methods, costs over the first cash and absent bars are there; names are escaped; below 5 MB."""
    page = portfolio_page(make_result())
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert len(page.encode()) < MAX_PAGE_BYTES
    for told in (
        *TITLES.values(),
        "Nothing beats equal weight.",
        "−12.34 %",
        "13.00 %",
        "1,111",
        "87.50 %",
        "hindsight",
    ):
        assert told in body, told
    assert "BTC<b>" not in page
    assert body.count('data-chart="weights-') == len(METHODS)


def test_the_stack_is_what_was_held() -> None:
    """Each member is drawn with its shares; where there are more than colours, the smallest are drawn as one."""
    members = tuple(f"M{k:02d}" for k in range(len(FILLS) + 3))
    held = make_weights(members).filter(pl.col("method") == "equal")
    figure = weights_figure(held, {name: name for name in members})
    assert len(figure.data) == len(FILLS)
    assert figure.data[-1].name == REST
    np.testing.assert_allclose(sum(np.asarray(trace.y) for trace in figure.data), 0.9)
    assert {trace.name for trace in figure.data[:-1]} == set(members[4:])


def test_a_thinned_curve_keeps_its_ends_and_its_deepest_point() -> None:
    """A long curve is drawn with fewer points, the first, the last and the deepest drawdown among them."""
    equity = make_equity(20_000)
    figure = growth_figure(equity, {"equal": "Equal weight"})
    curve, dips = (np.asarray(trace.y) for trace in figure.data)
    whole = equity.filter(pl.col("method") == "equal")
    assert len(curve) <= 2 * MAX_POINTS
    assert (curve[0], curve[-1]) == (whole["equity"][0], whole["equity"][-1])
    assert dips.min() == whole["drawdown"].min()
