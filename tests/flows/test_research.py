"""The main job on real bars, end to end: what the vendor has is what the lake holds and what the report speaks of."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flows.research import research
from lake.schema import BARS
from lake.store import Lake
from tasks.simulator.market import replay
from tests.flows.market import KEY, trading

DATA = Path(__file__).parents[3] / "shared" / "data"

#: Small grids: the point is the path, not the search.
CASES = {
    "BTC-PERP": ("BTC-PERP.1m.parquet", "1m", date(2021, 12, 31), {"fast": [30, 60], "slow": [240, 480]}),
    "NVDA.US": ("NVDA.US.1d.parquet", "1d", date(1999, 1, 1), {"fast": [10, 20], "slow": [50, 100]}),
}


@pytest.mark.parametrize("symbol", CASES)
def test_real_bars_go_through_the_whole_path(symbol: str, tmp_path: Path) -> None:
    """Bar for bar the lake equals the file, no partition is rejected, and a report is written."""
    name, interval, start, grid = CASES[symbol]
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the real bars of {name}")
    with trading(replay({symbol: path}, interval=interval), tmp_path) as (_, settings):
        found = asyncio.run(research.fn([symbol], interval=interval, start=start, grid=grid))
    truth = pl.read_parquet(path).select(
        pl.col("timestamp").cast(BARS["timestamp"]),
        *(pl.col(name) for name in ("open", "high", "low", "close", "volume")),
    )
    held = Lake(settings.lake_root).read_bars(symbol, interval).drop("quote_volume")
    assert_frame_equal(held, truth, check_exact=True)
    assert {verdict.status for verdict in found.verdicts} <= {"pass", "warn"}
    assert found.sweeps[0].combinations == 4
    page = Path(found.reports[0]).read_text(encoding="utf-8")
    assert symbol in page
    assert KEY not in page
