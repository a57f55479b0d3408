"""A thousand vendors that lie in every way: what the ledger calls missing is what they lack, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from pydantic import SecretStr

from lake.coverage import Ledger
from lake.store import Lake
from tasks.errors import TransientError
from tasks.exchange import backfill
from tasks.exchange.backfill import Backfill, backfill_range
from tasks.exchange.source import SourceSettings
from tasks.simulator.faults import Faults
from tasks.simulator.market import Market
from tasks.simulator.server import Simulator
from tests.exchange.conftest import END, MINUTE, START
from tests.exchange.faulty import FaultyVendor, MemoryLake, opener, price

SEEDS = 1_000
CHUNKS = 10


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the pages in flight."""
    return tmp_path_factory.mktemp("faulty")


async def settle(vendor: FaultyVendor, lake: MemoryLake, folder: Path) -> None:
    """Backfill until a run ends without an error, as a schedule would; requests fail for ever only in theory."""
    source = SourceSettings(now=vendor.now, concurrency=3)
    for _ in range(9):
        try:
            job = Backfill(lake, str(folder), "BTCUSDT", "1m", START, vendor.end, source, "always_open")  # type: ignore[arg-type]
            await job.run()
        except TransientError:
            continue
        return
    raise AssertionError("expected a run to end within nine attempts")


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_the_ledger_says_what_is_true_of_every_vendor(
    chunk: int, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each seed the ledger's missing set is what the vendor lacks, and asking again costs nothing.

    The lake holds the vendor's closed bars, each with its true value; the bar that still forms never lands.
    """
    for seed in range(chunk, SEEDS, CHUNKS):
        vendor = FaultyVendor(seed)
        lake = MemoryLake(vendor.now)
        monkeypatch.setattr(backfill, "open_source", opener(vendor))
        await settle(vendor, lake, scratch / str(seed))
        asked = vendor.asked
        await settle(vendor, lake, scratch / str(seed))

        assert vendor.asked == asked, f"seed {seed}: a settled range cost requests"
        assert lake.bars["timestamp"].to_list() == vendor.truth, f"seed {seed}"
        assert lake.bars["close"].to_list() == [price((opened - START) // MINUTE) for opened in vendor.truth], seed
        absent = Ledger(lake).absences("BTCUSDT", "1m", START, vendor.end, now=vendor.now)  # type: ignore[arg-type]
        assert opens_of(absent, "vendor_empty") == vendor.lost, f"seed {seed}"
        assert set(absent["reason"]) <= {"vendor_empty", "not_closed"}, f"seed {seed}"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_same_holds_over_real_sockets_and_files(market: Market, seed: int, tmp_path: Path) -> None:
    """The local market with all its faults, HTTP, a Delta lake: missing is what the market lost, nothing else."""
    now = END - timedelta(hours=5 * seed, seconds=17)
    faults = Faults(
        seed=seed,
        lost_p=0.01,
        missing_p=0.02,
        duplicate_p=0.02,
        shuffle_p=0.5,
        forming_p=1.0,
        drop_p=0.05,
        truncate_p=0.05,
        server_error_p=0.05,
    )
    with Simulator(market, plan="unlimited", faults=faults, now=now) as sim:
        source = SourceSettings(
            base_url=sim.url,
            api_key=SecretStr(sim.api_key),
            requests_per_minute=100_000,
            budget_dir=str(tmp_path / "budget"),
            now=now,
        )
        await backfill_range(str(tmp_path / "lake"), "BTCUSDT", "1m", START, END, source)
        asked = sum(sim.requests.values())
        await backfill_range(str(tmp_path / "lake"), "BTCUSDT", "1m", START, END, source)
        assert sum(sim.requests.values()) == asked
        lost = sorted(one.timestamp for one in sim.injected if one.fault == "lost" and one.timestamp is not None)
        truth = sim.market.bars("BTCUSDT", "1m", START, END).filter(~pl.col("timestamp").is_in(lost))
    lake = Lake(tmp_path / "lake")
    bars = lake.read_bars("BTCUSDT", "1m")
    assert bars.equals(truth.select(bars.columns))
    absent = Ledger(lake).absences("BTCUSDT", "1m", START, END, now=now)
    assert opens_of(absent, "vendor_empty") == lost
    assert bars["timestamp"].max() <= now - MINUTE  # type: ignore[operator]


def opens_of(absent: pl.DataFrame, reason: str) -> list[object]:
    """Return every open that the ledger gives this reason for."""
    runs = absent.filter(pl.col("reason") == reason).select("start", "end").iter_rows()
    return [start + i * MINUTE for start, end in runs for i in range((end - start) // MINUTE)]
