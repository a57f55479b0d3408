"""Bars for the benchmarks of the lake: seeded random walks with the decimals a vendor sends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from lake.schema import BARS

START = datetime(2023, 1, 1, tzinfo=UTC)
MINUTES_A_YEAR = 365 * 1440


def symbols(count: int) -> list[str]:
    """Return the names of `count` symbols."""
    return [f"SYM{number:02}USDT" for number in range(count)]


def make_bars(rows: int, *, seed: int, start: datetime = START) -> pl.DataFrame:
    """Return `rows` one-minute bars: prices on a tick of 0.01, volume in thousandths, quote volume to the cent."""
    random = np.random.default_rng(seed)
    base = 10.0 ** random.uniform(1, 4)
    spread = np.exp(random.normal(-8.0, 0.5, rows)) * base
    close = np.round(base * np.exp(np.cumsum(random.normal(0, 4e-4, rows))), 2)
    opened = np.concatenate([close[:1], close[:-1]])
    volume = np.round(np.exp(random.normal(2.0, 1.0, rows)), 3)
    frame = pl.DataFrame(
        {
            "timestamp": pl.datetime_range(
                start, start + timedelta(minutes=rows), "1m", closed="left", eager=True, time_unit="us"
            ),
            "open": opened,
            "high": np.round(np.maximum(opened, close) + spread, 2),
            "low": np.round(np.minimum(opened, close) - spread, 2),
            "close": close,
            "volume": volume,
            "quote_volume": np.round(volume * (opened + close) / 2, 2),
        }
    )
    return frame.cast(BARS)  # type: ignore[arg-type]


def years(rows: int, *, seed: int) -> Iterator[pl.DataFrame]:
    """Yield `rows` bars in pieces of a year at most, as a backfill would write them."""
    for number, first in enumerate(range(0, rows, MINUTES_A_YEAR)):
        count = min(MINUTES_A_YEAR, rows - first)
        yield make_bars(count, seed=seed * 100 + number, start=START + timedelta(minutes=first))
