"""Bars for the tests of features: seeded, tick-sized, with a volume season and quiet minutes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

START = datetime(2024, 3, 4, tzinfo=UTC)


def make_bars(size: int, seed: int = 7, step: timedelta = timedelta(minutes=1), quiet: float = 0.02) -> pl.DataFrame:
    """Return a random walk of bars on a 0.1 tick; a share `quiet` of them has no trade."""
    rng = np.random.default_rng(seed)
    close = np.round(30_000 * np.exp(np.cumsum(rng.normal(0, 1e-3, size))), 1)
    opens = np.concatenate([[30_000.0], close[:-1]])
    high = np.maximum(opens, close) + np.round(rng.exponential(5, size), 1)
    low = np.minimum(opens, close) - np.round(rng.exponential(5, size), 1)
    volume = np.round(rng.lognormal(1, 1, size), 3)
    idle = rng.random(size) < quiet
    close[idle], high[idle], low[idle], volume[idle] = opens[idle], opens[idle], opens[idle], 0.0
    return pl.DataFrame(
        {
            "timestamp": pl.datetime_range(START, START + (size - 1) * step, step, time_unit="us", eager=True),
            "open": opens,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "quote_volume": close * volume,
        }
    )


@pytest.fixture(name="make_bars", scope="session")
def make_bars_fixture() -> Callable[..., pl.DataFrame]:
    """The maker itself, for tests that need more bars or other steps."""
    return make_bars


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    """3,000 one-minute bars, two days and two hours."""
    return make_bars(3_000)
