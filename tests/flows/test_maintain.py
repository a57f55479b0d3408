"""Maintenance keeps the lake small and breaks nothing that a run has read."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from flows.backfill import backfill
from flows.maintain import maintain
from flows.research import research
from flows.sweep import sweep
from lake.store import Lake
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tasks.sweep.task import SweepSummary
from tests.flows.market import trading

MARKET = generated(
    seed=3,
    symbols=("BTCUSDT",),
    interval="1h",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 3, 1, tzinfo=UTC),
)


def same_metrics(left: SweepSummary, right: SweepSummary) -> bool:
    """Return whether two runs say the same of the market, bit for bit."""
    names = ("params", "bars", "sharpe", "total_return", "benchmark_return", "max_drawdown", "trades")
    return all(getattr(left, name) == getattr(right, name) for name in names)


def test_a_correction_names_the_runs_it_touched_and_their_version_stays(tmp_path: Path) -> None:
    """A run on provisional bars is named once they are corrected, and can be rerun on what it read, bit for bit."""
    with trading(MARKET, tmp_path, Faults(revise_p=0.02)) as (_, settings):
        days = (["BTCUSDT"], "1h", date(2025, 1, 1))
        found = asyncio.run(research.fn(*days, grid={"fast": [5], "slow": [20]}, allow_rejected=True))
        lake = Lake(settings.lake_root)
        version = lake.bars_version("1h")
        before = lake.read_bars("BTCUSDT", "1h", version=version)
        corrected = asyncio.run(backfill.fn(*days, refresh=True))
        done = asyncio.run(maintain.fn(keep_days=0))
        pinned = asyncio.run(
            sweep.fn(*days, grid={"fast": [5], "slow": [20]}, lake_version=version),
        )
    assert corrected[0].rows_revised > 0
    assert same_metrics(pinned[0], found.sweeps[0])
    assert done.touched_runs == [found.sweeps[0].run_id]
    assert done.files_after <= done.files_before
    assert Lake(settings.lake_root).read_bars("BTCUSDT", "1h", version=version).equals(before)
    assert not Lake(settings.lake_root).read_bars("BTCUSDT", "1h").equals(before)


def test_maintenance_changes_no_row(tmp_path: Path) -> None:
    """The newest version of every table reads the same before and after."""
    with trading(MARKET, tmp_path) as (_, settings):
        asyncio.run(backfill.fn(["BTCUSDT"], "1h", date(2025, 1, 1)))
        lake = Lake(settings.lake_root)
        tables = {name: lake.scan(name).collect() for name in lake.tables()}
        asyncio.run(maintain.fn(keep_days=0))
    for name, rows in tables.items():
        same = Lake(settings.lake_root).scan(name).collect()
        assert same.sort(pl.all()).equals(rows.sort(pl.all()))


def test_longer_bars_are_made_from_complete_ones(tmp_path: Path) -> None:
    """Resampled bars are in the lake beside the others, and the last, unfinished one is not."""
    with trading(MARKET, tmp_path) as (_, settings):
        asyncio.run(backfill.fn(["BTCUSDT"], "1h", date(2025, 1, 1), date(2025, 1, 11)))
        asyncio.run(maintain.fn(resample_from="1h", resample_to=["4h", "1d"]))
    lake = Lake(settings.lake_root)
    days = lake.read_bars("BTCUSDT", "1d")
    truth = MARKET.bars("BTCUSDT", "1d").head(10)
    assert days.height == 10
    assert days["close"].equals(truth["close"])
    assert days["high"].equals(truth["high"])
    assert lake.read_bars("BTCUSDT", "4h").height == 60
