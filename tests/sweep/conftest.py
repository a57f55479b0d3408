"""Bars for sweeps: random walks with ties, gaps on demand, and real files where the checkout has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.schema import as_bars

SHARED = Path(__file__).parents[3] / "shared" / "data"


def make_bars(rows: int, seed: int = 0, tick: float = 0.5, drop: tuple[int, ...] = ()) -> pl.DataFrame:
    """Return `rows` one-minute bars of a random walk on a price grid of `tick`, without the rows in `drop`."""
    rng = np.random.default_rng(seed)
    close = np.maximum(tick * np.round((100 + np.cumsum(rng.normal(0, 0.6, rows))) / tick), 5 * tick)
    opened = np.concatenate([[close[0]], np.maximum(close[:-1] + tick * rng.integers(-1, 2, rows - 1), tick)])
    reach = tick * rng.integers(0, 4, (2, rows))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    bars = pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=k) for k in range(rows)],
            "open": opened,
            "high": np.maximum(opened, close) + reach[0],
            "low": np.maximum(np.minimum(opened, close) - reach[1], tick / 2),
            "close": close,
            "volume": rng.integers(0, 50, rows).astype(float),
        }
    )
    return as_bars(bars.with_row_index("k").filter(~pl.col("k").is_in(list(drop))).drop("k"))


@pytest.fixture(scope="session")
def bars() -> Callable[..., pl.DataFrame]:
    """The maker of random bars."""
    return make_bars


@pytest.fixture(scope="session")
def bitcoin() -> pl.DataFrame:
    """5,000 real one-minute bars of a bitcoin perpetual."""
    return _real("BTC-PERP.1m.parquet").head(5_000)


@pytest.fixture(scope="session")
def nvidia() -> pl.DataFrame:
    """Real daily bars of NVIDIA, 1999 to 2014."""
    return _real("NVDA.US.1d.parquet")


def _real(name: str) -> pl.DataFrame:
    path = SHARED / name
    if not path.exists():
        pytest.skip("the real bars in ../shared/data are not part of this checkout")
    return as_bars(pl.read_parquet(path))
