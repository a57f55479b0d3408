"""The vendor's bar lengths in milliseconds, and how bars of one length are built from a shorter one."""

from __future__ import annotations

import numpy as np
import polars as pl

from tasks.errors import InputError

MINUTE_MS = 60_000
DAY_MS = 86_400_000
_MONDAY_MS = 4 * DAY_MS  # 1970-01-05, the first Monday after the epoch

#: Fixed lengths by the vendor's spelling; ``1M`` is a calendar month and has none.
STEP_MS: dict[str, int] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "2h": 120 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "1d": DAY_MS,
    "1w": 7 * DAY_MS,
}

#: Every interval the vendor lists, in its order.
INTERVALS: tuple[str, ...] = (*STEP_MS, "1M")


def spelled(interval: str) -> str:
    """Return the vendor's spelling of `interval`; ``1mo`` is accepted for ``1M``.

    Raises:
        InputError: The vendor has no such interval.
    """
    name = "1M" if interval == "1mo" else interval
    if name not in INTERVALS:
        raise InputError(f"interval: expected one of {' '.join(INTERVALS)}, found {interval!r}")
    return name


def floor_ms(times: np.ndarray, interval: str) -> np.ndarray:
    """Return, for each instant, the open of the bar that holds it."""
    if interval == "1M":
        return times.astype("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
    origin = _MONDAY_MS if interval == "1w" else 0
    return times - (times - origin) % STEP_MS[interval]


def close_ms(opens: np.ndarray, interval: str) -> np.ndarray:
    """Return, for each bar's open, the instant at which the bar is complete."""
    if interval == "1M":
        months = opens.astype("datetime64[ms]").astype("datetime64[M]") + np.timedelta64(1, "M")
        return months.astype("datetime64[ms]").astype(np.int64)
    return opens + STEP_MS[interval]


def can_build(base: str, interval: str) -> bool:
    """Return whether bars of `interval` are whole unions of bars of `base`."""
    if base == interval or interval == "1M":
        return base != "1w"
    return base != "1M" and STEP_MS[interval] % STEP_MS[base] == 0


def aggregate(bars: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Build longer bars: first open, highest high, lowest low, last close, summed volumes.

    Args:
        bars: Sorted columns ``time, open, high, low, close, volume`` and any of ``quote_volume, open_interest``.
        interval: The length to build.
    """
    columns = [
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum().round(9),  # so that 0.1 + 0.2 is written 0.3
    ]
    if "quote_volume" in bars.columns:
        columns.append(pl.col("quote_volume").sum().round(9))
    if "open_interest" in bars.columns:
        columns.append(pl.col("open_interest").last())
    buckets = pl.Series("time", floor_ms(bars["time"].to_numpy(), interval))
    return bars.with_columns(buckets).group_by("time", maintain_order=True).agg(columns)
