"""A sweep on a Dask cluster finds what one process finds."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

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
    best, picture = asyncio.run(shown("sweep-best-ma-crossover-btcusdt-15m", "sweep-map-ma-crossover-btcusdt-15m"))
    assert len(best) == len(picture) == 2, "one a flow run, renewed in its place"
    for artifact in best:
        rows = json.loads(artifact.data)
        assert {name: float(rows[0][name]) for name in grid} == spread[0].params
        assert "9 of 9 combinations" in artifact.description
    assert all("](data:image/png;base64," in artifact.data for artifact in picture)


async def shown(*keys: str) -> list[list[Artifact]]:
    """Return every artifact the server has under each key."""
    async with get_client() as client:
        return [
            await client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
            for key in keys
        ]
