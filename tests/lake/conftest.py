"""Bars and a lake for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.schema import BARS
from lake.store import Lake

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for a lake."""
    return tmp_path / "data"


@pytest.fixture
def lake(root: Path) -> Lake:
    """An empty lake."""
    return Lake(root)


@pytest.fixture
def make_bars() -> Callable[..., pl.DataFrame]:
    """A maker of bars: a seeded random walk of `rows` bars from `start`."""

    def make(
        rows: int, start: datetime = START, *, step: timedelta = timedelta(minutes=1), seed: int = 0
    ) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        close = 100 + np.cumsum(random.normal(0, 0.01, rows)).round(2)
        frame = pl.DataFrame(
            {
                "timestamp": pl.datetime_range(start, start + step * rows, step, closed="left", eager=True),
                "open": close,
                "high": close + 0.01,
                "low": close - 0.01,
                "close": close,
                "volume": random.integers(1, 1000, rows).astype(float),
            }
        ).with_columns(quote_volume=pl.lit(None, pl.Float64))
        return frame.cast(BARS)  # type: ignore[arg-type]

    return make
