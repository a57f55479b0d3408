"""The vendor as the live flow sees it, on the market inside the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.live_vendor import open_live_vendor
from flows.settings import Settings
from tasks.errors import UnknownSymbolError


async def test_the_simulated_market_lists_what_the_vendor_could(tmp_path: Path) -> None:
    """A slip of the pen is refused, as the vendor would, instead of being given a market of its own."""
    settings = Settings(market="simulator", plan="enterprise", state_dir=tmp_path)
    async with open_live_vendor(settings, ["BTCUSD", "BTCUSDT"]) as vendor:
        assert (await vendor.depth("BTCUSDT")).bids
        with pytest.raises(UnknownSymbolError, match="check its spelling"):
            await vendor.depth("BTCUSD")
