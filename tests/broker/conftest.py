"""A local market that stands still, and brokers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tasks.simulator.market import Market, generated
from tasks.simulator.server import Simulator

_NOW = datetime(2025, 3, 4, 15, 30, 17, tzinfo=UTC)


@pytest.fixture(scope="session")
def small_market() -> Market:
    """Two days of one pair."""
    start, end = datetime(2025, 3, 3, tzinfo=UTC), datetime(2025, 3, 5, tzinfo=UTC)
    return generated(seed=5, symbols=("BTCUSDT",), start=start, end=end)


@pytest.fixture
async def sim(small_market: Market) -> AsyncIterator[Simulator]:
    """A running market with fresh accounts."""
    async with Simulator(small_market, plan="unlimited", now=_NOW) as sim:
        yield sim
