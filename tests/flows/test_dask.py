"""A sweep on a Dask cluster finds what one process finds."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

from flows.backfill import backfill
from flows.settings import use
from flows.sweep import sweep
from tasks.simulator.market import generated
from tests.flows.market import trading
from tests.flows.test_maintain import same_metrics

MARKET = generated(
    seed=4,
    symbols=("BTCUSDT",),
    interval="15m",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 3, 1, tzinfo=UTC),
)


def test_a_cluster_finds_what_one_process_finds(orchestrated: str, tmp_path: Path) -> None:
    """The same grid in chunks on two workers of a local cluster gives the same winner and figures, bit for bit."""
    grid = {"fast": [5, 10, 20], "slow": [30, 60, 90]}
    with trading(MARKET, tmp_path) as (_, settings):
        asyncio.run(backfill.fn(["BTCUSDT"], "15m", date(2025, 1, 1)))
        alone = asyncio.run(sweep.fn(["BTCUSDT"], "15m", date(2025, 1, 1), grid=grid))
        with use(settings.model_copy(update={"dask": "local"})):
            spread = sweep(["BTCUSDT"], "15m", date(2025, 1, 1), grid=grid, seed=1)
    assert same_metrics(spread[0], alone[0])
