"""The status: what the lake, the ledger, the verdicts, the server and the live page say, in one place."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr
from rich.console import Console

from flows import doctor, standing, status
from flows.backfill import backfill
from flows.quality import quality
from flows.settings import Settings
from lake.store import Lake
from tasks.control.server import ControlServer
from tasks.simulator.market import generated
from tests.flows.conftest import free_port
from tests.flows.market import trading

START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Fill a lake with a month of hours of two symbols, one of them judged; the market goes on for a month."""
    market = generated(symbols=("BTCUSDT", "ETHUSDT"), start=START, end=END)
    with trading(market, tmp_path_factory.mktemp("status")) as (_, settings):
        asyncio.run(backfill.fn(["BTCUSDT", "ETHUSDT"], "1h", START.date(), date(2025, 2, 1)))
        asyncio.run(quality.fn(["BTCUSDT"], "1h", START.date(), date(2025, 2, 1)))
    return settings.model_copy(update={"control_port": free_port()})


def test_each_holding_says_how_far_it_is_and_what_quality_said(settings: Settings) -> None:
    """Bars, ends, the distance to the newest bar, bars to fetch and verdicts are those of lake, ledger and record."""
    now = datetime(2025, 2, 3, 0, 30, tzinfo=UTC)
    bitcoin, ether = status.holdings(Lake(settings.lake_root), days=10, now=now)
    assert (bitcoin.symbol, bitcoin.interval, bitcoin.bars) == ("BTCUSDT", "1h", 744)
    assert (bitcoin.first, bitcoin.last) == (START, datetime(2025, 1, 31, 23, tzinfo=UTC))
    assert bitcoin.behind == timedelta(days=2)
    assert bitcoin.to_fetch == 48
    assert bitcoin.verdicts == {"pass": 1}
    assert ether.verdicts == {}


def test_everything_is_shown_without_a_server_or_a_live_flow(settings: Settings) -> None:
    """What cannot be asked is said to be so, in words."""
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        text = _text(settings)
    assert "BTCUSDT" in text
    assert "not judged" in text
    assert "Sweeps: none on record" in text
    assert "no Prefect server answers" in text
    assert f"no live flow answers on port {settings.control_port}" in text


def test_an_empty_lake_says_how_to_begin(tmp_path: Path) -> None:
    """A new machine is told the command that fetches bars."""
    settings = Settings(lake_root=str(tmp_path), control_port=free_port())
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert "klinehouse backfill" in _text(settings)


async def test_a_live_flow_tells_its_state(settings: Settings) -> None:
    """The connection's state and its sentence come from the control page."""
    state = {"stream": {"connection": {"state": "live", "sentence": "everything desired flows"}}}
    port = settings.control_port
    async with ControlServer(lambda: state, lambda: (True, ""), {}, token=SecretStr("t"), port=port):
        assert await asyncio.to_thread(status.live_state, settings) == state
    assert status.live_state(settings) is None


def test_the_server_tells_the_last_runs(orchestrated: str, settings: Settings) -> None:
    """A run that just ended is listed with its name and state."""
    with trading(generated(symbols=("BTCUSDT",), start=START, end=END), Path(settings.lake_root).parent):
        backfill(["BTCUSDT"], "1h", START.date(), date(2025, 2, 1))
    runs = status.flow_runs()
    assert runs is not None
    assert ("backfill 1h", "Completed") in {(run["run"], run["state"]) for run in runs}


def test_what_runs_by_itself_is_said(orchestrated: str) -> None:
    """Workers, deployments, what is due and who is told: each in words, its absence too."""
    found = standing.standing()
    assert found is not None
    assert "no worker online" in str(found)
    assert "nobody is told" in str(found)
    due = replace(found, workers=("here",), alerts=4, next_run=START)
    assert "worker here online" in str(due)
    assert "next run 2025-01-01 00:00 UTC" in str(due)
    assert doctor.check_operations(Settings()).grade in ("not checked", "warn")


def _text(settings: Settings) -> str:
    console = Console(width=140, file=io.StringIO())
    with console.capture() as shown:
        console.print(status.render(settings, days=30))
    return shown.get()
