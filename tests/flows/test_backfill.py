"""A backfill on the market inside the process, as a newcomer runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows import vendor
from flows.backfill import backfill
from flows.live_vendor import open_live_vendor
from flows.settings import Settings, use
from lake.store import Lake

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def test_an_unknown_symbol_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen is refused as the vendor refuses it, and the other symbols are fetched."""
    monkeypatch.setattr(vendor, "_SIMULATED_SINCE", TODAY - timedelta(days=3))
    with use(Settings(market="simulator", lake_root=str(tmp_path / "lake"), state_dir=tmp_path / "state")):
        first, last = (TODAY - timedelta(days=2)).date(), TODAY.date()
        right, wrong = await backfill.fn(["BTCUSDT", "BTCUSTD"], "1h", first, last)
    assert (right.rows_new, right.error) == (48, "")
    assert wrong.rows_new == 0
    assert "2002" in wrong.error


async def test_a_live_run_goes_on_in_the_market_that_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Research and live runs make their simulated markets at different hours, and it is one market all the same."""
    monkeypatch.setattr(vendor, "_SIMULATED_SINCE", TODAY - timedelta(days=3))
    settings = Settings(market="simulator", lake_root=str(tmp_path / "lake"), state_dir=tmp_path / "state")
    with use(settings):
        await backfill.fn(["BTCUSDT"], "1h", (TODAY - timedelta(days=2)).date(), TODAY.date())
    streamed = Lake(str(tmp_path / "other"))
    async with open_live_vendor(settings, ["BTCUSDT"]) as live:
        await live.fill_bars(streamed, "BTCUSDT", "1h", least=72)
    fetched = Lake(settings.lake_root).read_bars("BTCUSDT", "1h")
    assert fetched.height == 48
    assert streamed.read_bars("BTCUSDT", "1h", TODAY - timedelta(days=2), TODAY).equals(fetched)
