"""The main job on real bars, end to end: what the vendor has is what the lake holds and what the report speaks of."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flows.backfill import backfill
from flows.quality import quality
from flows.research import research
from lake.absences import bars_by_reason
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.schema import BARS
from lake.store import Lake
from tasks.errors import ConfigurationError
from tasks.simulator.faults import Faults
from tasks.simulator.market import replay, us_equities
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


def test_bars_before_a_listing_are_not_missing(tmp_path: Path) -> None:
    """A share listed within the range is judged from its first day, and the ledger says why the rest is absent."""
    market = us_equities(["GOOG"])
    with trading(market, tmp_path) as (simulator, settings):
        asyncio.run(backfill.fn(["GOOG.US"], "1d", date(2000, 1, 1)))
        verdicts = asyncio.run(quality.fn(["GOOG.US"], "1d", date(2000, 1, 1)))
        asked = sum(simulator.requests.values())
        again = asyncio.run(backfill.fn(["GOOG.US"], "1d", date(2000, 1, 1)))
        assert sum(simulator.requests.values()) == asked
    assert again[0].requests == 0
    assert {verdict.status for verdict in verdicts} == {"pass"}
    assert verdicts[0].start == datetime(2004, 8, 19, tzinfo=UTC)
    start, end = datetime(2000, 1, 1, tzinfo=UTC), market.now
    calendar = TradingCalendar.from_exchange("XNYS")
    absent = bars_by_reason(Ledger(Lake(settings.lake_root)).absences("GOOG.US", "1d", start, end, calendar=calendar))
    assert absent["before_listing"] > 1_000
    assert absent["vendor_empty"] == absent["not_fetched"] == absent["to_retry"] == 0


def test_the_key_is_nowhere_in_prefect(orchestrated: str, tmp_path: Path) -> None:
    """A recorded run, and one that the vendor refused, leave no trace of the key in Prefect's database."""
    with trading(us_equities(["IBM"]), tmp_path) as (simulator, _):
        backfill(["IBM.US"], "1d", date(2012, 1, 1))
        simulator.faults = Faults(code=1001)
        with pytest.raises(ConfigurationError, match="1001"):
            backfill(["IBM.US"], "1d", date(2011, 1, 1))
    database = list(Path(os.environ["PREFECT_HOME"]).glob("prefect.db*"))
    assert database
    assert not [path.name for path in database if KEY.encode() in path.read_bytes()]
