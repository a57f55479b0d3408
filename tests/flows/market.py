"""A local market and the settings that point at it, for every test of a flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from flows.settings import Settings, use
from tasks.simulator.faults import Faults
from tasks.simulator.market import Market
from tasks.simulator.server import Simulator

KEY = "canary-4f1c9b"


@contextmanager
def trading(market: Market, folder: Path, faults: Faults | None = None) -> Iterator[tuple[Simulator, Settings]]:
    """Serve `market` and put settings in place that lead flows to it, with lake and reports under `folder`."""
    with Simulator(market, plan="unlimited", faults=faults, api_key=KEY) as simulator:
        settings = Settings(
            lake_root=str(folder / "lake"),
            report_dir=folder / "reports",
            state_dir=folder / "state",
            vendor_url=simulator.url,
            api_key=SecretStr(KEY),
            market_now=market.now,
            requests_per_minute=600_000,
            history_days=36_500,
        )
        with use(settings):
            yield simulator, settings
