"""A small world for the blocks of the pages: a lake with bars, verdicts, a sweep and live rows, and a vendor to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

import flows.research
import tasks.exchange.source
from flows.settings import Settings, use
from lake.store import Lake
from tasks.quality.task import check_partition
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tasks.stream.events import GapReason
from tasks.stream.messages import Depth, Trade
from tasks.stream.recording import Recorder

#: What a page may use without having made it: a symbol's minutes, and the month that they are.
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sandbox:
    """Where blocks run.

    Attributes:
        folder: The working folder; the lake is `data` in it.
        lake: The lake.
        given: Names that every page may use.
    """

    folder: Path
    lake: Lake
    given: dict[str, Any]


@contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """Build the world in `folder`, lead settings and vendor to it, and work in that folder until the block ends."""
    newest = datetime(2025, 4, 1, tzinfo=UTC)
    market = generated(seed=7, symbols=("BTCUSDT", "ETHUSDT"), interval="1m", start=START, end=newest)
    with Simulator(market, plan="unlimited") as simulator, pytest.MonkeyPatch.context() as patch:
        settings = Settings(
            lake_root=str(folder / "data"),
            report_dir=folder / "reports",
            state_dir=folder / "state",
            vendor_url=simulator.url,
            api_key=SecretStr(simulator.api_key),
            market_now=market.now,
            requests_per_minute=600_000,
            history_days=36_500,
        )
        patch.chdir(folder)
        patch.setattr(tasks.exchange.source, "SourceSettings", _asking(simulator, market.now))
        patch.setattr(flows.research, "research", _unrecorded(flows.research.research))
        with use(settings):
            lake = Lake(settings.lake_root)
            _fill(lake, settings.lake_root, market.bars("BTCUSDT", "1m"))
            bars = lake.read_bars("BTCUSDT", "1m", START, END)
            names = {"lake": lake, "bars": bars, "start": START, "end": END, "pl": pl}
            yield Sandbox(folder, lake, names | {"url": simulator.url, "key": simulator.api_key})


def _fill(lake: Lake, root: str, minutes: pl.DataFrame) -> None:
    """Write a month of minutes that quality rejects, a researched symbol, and what a live run records."""
    month = minutes.filter(pl.col("timestamp").is_between(START, END, closed="left"))
    holed = month.filter(~pl.int_range(pl.len()).is_between(600, 2_600))
    lake.write_bars(holed, symbol="BTCUSDT", interval="1m", start=START, end=END)
    check_partition.fn(root, "BTCUSDT", "1m", START, END)
    asyncio.run(
        flows.research.research.fn(
            ["ETHUSDT"], start=date(2024, 1, 1), end=date(2024, 4, 1), grid={"fast": [5, 10], "slow": [20, 40]}
        )
    )
    recorder = Recorder(lake)
    at = START.timestamp() * 1_000
    recorder.trade("BTCUSDT", Trade("1", 1.0, 1.0, "buy", int(at)), at)
    recorder.depth("BTCUSDT", Depth("BTCUSDT", [(1.0, 1.0)], [(2.0, 1.0)], int(at)), at)
    recorder.outage("BTCUSDT", "trade", at, at + 1, GapReason.NOT_WRITTEN)
    recorder.flush()


def _asking(simulator: Simulator, now: datetime) -> Callable[..., Any]:
    """Return `SourceSettings` for a page, asking the local market in the place of the vendor."""
    original = tasks.exchange.source.SourceSettings

    def settings(**fields: Any) -> Any:
        here = {"base_url": simulator.url, "api_key": simulator.api_key, "now": now, "requests_per_minute": 600_000}
        return original(**fields | here)

    return settings


def _unrecorded(flow: Any) -> Any:
    """Return a flow that runs as it is called, without a Prefect server."""

    def call(*arguments: Any, **parameters: Any) -> Any:
        return asyncio.run(flow.fn(*arguments, **parameters))

    call.fn = flow.fn  # type: ignore[attr-defined]
    return call
