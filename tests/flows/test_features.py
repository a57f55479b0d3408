"""The feature tables' flow computes what is new, and days that are asked for."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

from flows.backfill import backfill
from flows.features import features
from tasks.simulator.market import generated
from tests.flows.market import trading

MARKET = generated(
    seed=5,
    symbols=("BTCUSDT",),
    interval="5m",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 1, 4, tzinfo=UTC),
)


def test_a_second_run_computes_only_what_is_new(tmp_path: Path) -> None:
    """Without days a run goes on where the last one ended; days that are named are computed again."""
    symbols, names, day = ["BTCUSDT"], ["return_1"], date(2025, 1, 2)
    with trading(MARKET, tmp_path):
        built = []
        for end in (day, None):
            asyncio.run(backfill.fn(symbols, "5m", date(2025, 1, 1), end))
            built += asyncio.run(features.fn(symbols, "5m", names=names))
        built += asyncio.run(features.fn(symbols, "5m", day, names=names))
    assert [(one.rows, one.incremental) for one in built] == [(288, False), (576, True), (576, False)]
