"""The page of a comparison of paths says what is equal, shows where paths part, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tasks.report.charts.parity import parity_figure
from tasks.report.parity import MAX_DIFFERENCES, parity_page
from tasks.report.thin import MAX_POINTS

START = datetime(2026, 3, 2, tzinfo=UTC)
RUN: dict[str, Any] = {
    "run_id": "parity-0123456789ab",
    "symbol": "BTC<USDT>",
    "interval": "1m",
    "strategy": "ma_crossover",
    "params": {"fast": 3},
    "start": "2026-03-02",
    "end": "2026-03-03",
    "bars": 1440,
    "decisions": 1439,
    "decisions_equal": 1438,
    "fills": 20,
    "fills_equal": 19,
    "unexplained": 0,
    "costs": {"fee_bps": 5.0, "stop_loss": None},
    "conditions": {},
    "lake_version": 3,
    "journal": "state/orders.sqlite",
}


def paths(count: int) -> pl.DataFrame:
    """Return three flat equity lines."""
    stamps = pl.Series([START + timedelta(minutes=k) for k in range(count)])
    lines = {name: [1e4] * count for name in ("sweep", "event", "live")}
    held = {f"{name}_position": [float(k % 2) for k in range(count)] for name in ("sweep", "event", "live")}
    return pl.DataFrame({"timestamp": stamps, **lines, **held})


def rows(count: int, first_follows: int | None = None) -> pl.DataFrame:
    """Return a difference and as many that follow from it as make `count`."""
    return pl.DataFrame(
        {
            "number": list(range(1, count + 1)),
            "timestamp": [START + timedelta(minutes=k) for k in range(count)],
            "path": ["live"] * count,
            "what": ["fill"] * count,
            "expected": ["buy 1 at 100"] * count,
            "found": ["refused"] * count,
            "cause": ["risk block"] * count,
            "evidence": ["order_value: <too much>"] * count,
            "follows": [first_follows, *([1] * (count - 1))][:count],
        },
        schema_overrides={"follows": pl.Int64},
    )


def test_the_page_shows_causes_and_evidence() -> None:
    """Cause, evidence and what it led to are on the page, as text that no markup of theirs can break."""
    page = parity_page(RUN, paths(30), rows(3))
    assert "1,438 of 1,439 decisions and 19 of 20 fills are equal" in page
    assert "order_value: &lt;too much&gt;" in page
    assert "risk block, follows 1" in page
    assert "BTC&lt;USDT&gt;" in page
    assert "src=" not in page.split("<script", 1)[0]


def test_an_equal_run_says_so_and_has_no_tables() -> None:
    """Where nothing differs, one sentence is enough."""
    page = parity_page(RUN, paths(30), rows(3).head(0))
    assert "live trades as research said" in page
    assert "Every difference" not in page


def test_what_is_unexplained_is_not_called_passed() -> None:
    """A difference without a cause turns the stamp."""
    page = parity_page(RUN | {"unexplained": 2}, paths(30), rows(2))
    assert "✗ not explained" in page
    assert "do not trust this" in page


def test_a_long_list_keeps_what_follows_from_nothing() -> None:
    """Consequences are cut first, and the page says how many."""
    many = rows(MAX_DIFFERENCES + 50).with_columns(
        follows=pl.when(pl.col("number") == MAX_DIFFERENCES + 50).then(None).otherwise("follows")
    )
    page = parity_page(RUN, paths(600), many)
    assert "50 more" in page
    assert f">{MAX_DIFFERENCES + 50}</td>" in page


def test_long_periods_are_thinned_to_the_last_of_each_stretch() -> None:
    """A year of minutes does not make a page of a year's points, and ends where the period ends."""
    figure = parity_figure(paths(5 * MAX_POINTS), rows(2))
    assert len(figure.data[0].x) == MAX_POINTS
    assert figure.data[0].x[-1] == (START + timedelta(minutes=5 * MAX_POINTS - 1)).timestamp() * 1000
