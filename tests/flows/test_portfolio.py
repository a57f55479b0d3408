"""Portfolios of symbols and of sweeps, through the flow: figures, tables and page."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from flows.backfill import backfill
from flows.cli import open_report
from flows.portfolio import portfolio
from flows.settings import Settings, use
from flows.show import show
from flows.sweep import sweep
from lake.store import Lake
from tasks.errors import InputError
from tasks.simulator.market import generated
from tests.flows.market import trading

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
FIRST = date(2025, 1, 1)
MARKET = generated(
    seed=5,
    symbols=tuple(SYMBOLS),
    interval="1h",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 3, 1, tzinfo=UTC),
)


def test_symbols_and_runs_become_portfolios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both kinds are stored whole with a page that names their run; a run's label is its symbol and strategy."""
    with trading(MARKET, tmp_path) as (_, settings):
        asyncio.run(backfill.fn(SYMBOLS, "1h", FIRST))
        of_symbols = asyncio.run(portfolio.fn(SYMBOLS, None, "1h", FIRST, rebalance="1d", lookback=48))
        swept = asyncio.run(sweep.fn(SYMBOLS, "1h", FIRST, grid={"fast": [5], "slow": [20]}))
        runs, methods = [summary.run_id for summary in swept], ["inverse_volatility"]
        of_runs = asyncio.run(portfolio.fn(None, runs, "1h", FIRST, methods=methods, rebalance="1d", lookback=48))
        open_report(browser=False)
    newest = Path(capsys.readouterr().out.splitlines()[-1])
    assert newest.is_relative_to(settings.report_dir)
    assert swept[-1].run_id in newest.read_text(encoding="utf-8")
    lake = Lake(settings.lake_root)
    assert lake.scan("portfolio/runs").collect().height == 2
    assert of_symbols.summary.decisions == 56  # 59 days, the last of which cannot be filled, less two of looking back
    assert list(of_runs.summary.methods) == ["equal", "inverse_volatility"]
    for done, word in ((of_symbols, "ETHUSDT"), (of_runs, "ETHUSDT ma_crossover")):
        page = Path(done.page).read_text(encoding="utf-8")
        assert done.summary.run_id in page
        assert word in page
    show(of_symbols)
    assert "hierarchical risk parity" in capsys.readouterr().out


def test_a_portfolio_of_nothing_is_refused() -> None:
    """One member, or costs that a rebalancing cannot keep, is one line that says what was expected."""
    with pytest.raises(InputError, match="expected two or more different symbols"):
        asyncio.run(portfolio.fn(["BTCUSDT"]))


def test_runs_that_nobody_made_are_named(tmp_path: Path) -> None:
    """The error names the run, not the table that it was looked for in, and says what lists those there are."""
    words = "run: expected one in sweeps/runs, found none named 'one'; there are none yet"
    with use(Settings(lake_root=str(tmp_path))), pytest.raises(InputError, match=words):
        asyncio.run(portfolio.fn(None, ["one", "two"]))


def test_without_a_run_there_is_no_report_to_open(tmp_path: Path) -> None:
    """The error says what was looked for and what makes one."""
    with pytest.raises(InputError, match="expected a run in sweeps/runs, found none"):
        open_report(browser=False, root=str(tmp_path))
