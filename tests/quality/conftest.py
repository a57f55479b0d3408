"""Bars to judge: a quiet, sound market to plant defects into."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.schema import as_bars

START = datetime(2024, 3, 4, tzinfo=UTC)

Make = Callable[..., pl.DataFrame]


class TickingClock:
    """A lake's clock: a second later at each question."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time."""
        self.now += timedelta(seconds=1)
        return self.now


def sound_bars(
    count: int = 600, *, start: datetime = START, step: timedelta = timedelta(minutes=1), seed: int = 7
) -> pl.DataFrame:
    """Return `count` sound bars of a seeded random walk, each opening at the close before it, with quote volume."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.0005, count)))
    opened = np.concatenate([[100.0], close[:-1]])
    reach = np.abs(random.normal(0, 0.0003, (2, count)))
    high, low = np.maximum(opened, close) * (1 + reach[0]), np.minimum(opened, close) * (1 - reach[1])
    volume = random.gamma(2.0, 50.0, count)
    stamps = pl.datetime_range(start, start + step * (count - 1), step, eager=True, time_unit="us")
    return as_bars(
        pl.DataFrame(
            {
                "timestamp": stamps,
                "open": opened,
                "high": high,
                "low": low,
                "close": close,
                "volume": volume,
                "quote_volume": volume * (high + low) / 2,
            }
        )
    )


@pytest.fixture(scope="session")
def make_bars() -> Make:
    """Return the maker of sound bars."""
    return sound_bars
