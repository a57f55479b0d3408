"""Maintenance keeps the lake small and breaks nothing that a run has read."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from flows.backfill import backfill
from flows.maintain import maintain
from flows.research import research
from lake.store import Lake
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tests.flows.market import trading

MARKET = generated(
    seed=3,
    symbols=("BTCUSDT",),
    interval="1h",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 3, 1, tzinfo=UTC),
)


def test_a_correction_names_the_runs_it_touched_and_their_version_stays(tmp_path: Path) -> None:
    """A run on provisional bars is named once they are corrected, and what it read can still be read."""
    with trading(MARKET, tmp_path, Faults(revise_p=0.02)) as (_, settings):
        days = (["BTCUSDT"], "1h", date(2025, 1, 1))
        found = asyncio.run(research.fn(*days, grid={"fast": [5], "slow": [20]}, allow_rejected=True))
        lake = Lake(settings.lake_root)
        version = lake.bars_version("1h")
        before = lake.read_bars("BTCUSDT", "1h", version=version)
        corrected = asyncio.run(backfill.fn(*days, refresh=True))
        done = asyncio.run(maintain.fn(keep_days=0))
    assert corrected[0].rows_revised > 0
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
