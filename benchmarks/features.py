"""Speed and digits of the feature kernels: `make bench-features`.

The article's kernel is written here as it stands there: one pass over the window for every bar, sums of squares.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import talib
from numba import njit

from benchmarks.features_pandas import compute_with_pandas
from benchmarks.runner import Table
from tasks.features.compute import compute_features, warm_up
from tasks.features.kernels import rolling_std
from tasks.features.proofs import feature_subject
from tasks.features.prover import check
from tasks.features.registry import FEATURES
from tests.features.leaks import LEAKS

VALUES = 1_000_000
YEAR_BARS = 525_600
LEAK_BARS = 20_000
BOOK = {"microprice", "imbalance", "pressure_ratio"}


@njit
def articles_std(values, window):
    """Return the rolling deviation as the article computes it: O(n · window), sum of squares less squared mean."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total, squares = 0.0, 0.0
        for j in range(i - window + 1, i + 1):
            total += values[j]
            squares += values[j] * values[j]
        mean = total / window
        out[i] = np.sqrt(squares / window - mean * mean)
    return out


def exact_std(values: np.ndarray, window: int, ddof: int) -> np.ndarray:
    """Return the rolling deviation in extended precision, two passes a window."""
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    parts = []
    for part in np.array_split(windows, max(windows.size // 4_000_000, 1)):
        extended = part.astype(np.longdouble)
        centred = extended - extended.mean(axis=1, keepdims=True)
        parts.append(np.sqrt((centred**2).sum(axis=1) / (window - ddof)))
    return np.concatenate(parts)


def worst_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest relative error; a NaN where the exact value is finite is an error of infinity."""
    errors = np.abs(found - exact) / exact
    return float(np.max(np.where(np.isnan(errors), np.inf, errors)))


def year_of_bars(seed: int) -> pl.DataFrame:
    """Return a year of minutes: a walk on a 0.1 tick with trading in every minute."""
    rng = np.random.default_rng(seed)
    close = np.round(30_000 * np.exp(np.cumsum(rng.normal(0, 5e-4, YEAR_BARS))), 1)
    opens = np.concatenate([[30_000.0], close[:-1]])
    start = datetime(2023, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": pl.datetime_range(
                start, start + timedelta(minutes=YEAR_BARS - 1), "1m", time_unit="us", eager=True
            ),
            "open": opens,
            "high": np.maximum(opens, close) + np.round(rng.exponential(5, YEAR_BARS), 1) + 0.1,
            "low": np.minimum(opens, close) - np.round(rng.exponential(5, YEAR_BARS), 1) - 0.1,
            "close": close,
            "volume": np.round(rng.lognormal(1, 1, YEAR_BARS), 3) + 0.001,
            "quote_volume": close,
        }
    )


def deviation_rows(table: Table) -> None:
    """Measure the rolling deviation against the article's loop, pandas and TA-Lib."""
    values = 1e9 + np.random.default_rng(0).normal(0, 0.01, VALUES)
    series = pd.Series(values)

    def against(window: int, name: str, other: Callable[[], object], bar: float) -> None:
        claim = f"rolling std, 1 million values, window {window}, against {name}"
        table.compare(claim, lambda: rolling_std(values, window), other, bar=bar, repeats=15, warm_up=2)

    against(20, "the article's Numba loop", lambda: articles_std(values, 20), 4)
    against(200, "the article's Numba loop", lambda: articles_std(values, 200), 20)
    against(20, "pandas", lambda: series.rolling(20).std(), 6)
    against(20, "TA-Lib (1.3× its time at most)", lambda: talib.STDDEV(values, 20), 1 / 1.3)


def digit_rows(table: Table) -> None:
    """Measure the worst relative error on a high level with little noise, and after a spike, and on flat windows."""
    values = 1e9 + np.random.default_rng(1).normal(0, 0.01, VALUES)
    exact = exact_std(values, 20, 1)
    ours = rolling_std(values, 20)[19:]
    table.figure("worst error on 1e9 + N(0, 0.01)", worst_error(ours, exact), at_most=2e-11)
    theirs = articles_std(values, 20)[19:]
    missing = float(np.isnan(theirs).mean())
    near = int(np.nansum(np.abs(theirs / (exact * np.sqrt(19 / 20)) - 1) < 0.01))
    table.figure("… the article's: share of NaN", missing, detail=f"{near:,} of {theirs.size:,} within 1 %")
    spiked = values.copy()
    spiked[[1000, VALUES // 2]] = 1e12, -1e12
    found = worst_error(rolling_std(spiked, 20)[19:], exact_std(spiked, 20, 1))
    table.figure("worst error with two spikes of 1e12", found, at_most=2e-11)
    flat = np.concatenate([values[:1000], np.full(100_000, 123.456), values[:1000], np.full(100_000, 1e9 + 0.1)])
    largest = max(rolling_std(flat, 20)[1019:101_000].max(), rolling_std(flat, 20)[102_019:].max())
    table.figure("largest deviation of a flat window", float(largest), at_most=0.0)


def year_rows(table: Table) -> None:
    """Measure all features of one symbol-year of minutes against the same in pandas, and compare their values.

    Left out are only the three of order books, whose columns bars do not have.
    """
    bars, other = year_of_bars(2), year_of_bars(3)
    joined = bars.with_columns(benchmark_close=other["close"])
    names = [name for name in FEATURES if name not in BOOK]
    frame = pd.DataFrame({column: joined[column].to_numpy() for column in joined.columns})
    found = table.compare(
        f"{len(names)} features of one symbol-year of 1m bars, against pandas",
        lambda: compute_features(joined, names),
        lambda: compute_with_pandas(frame, names),
        bar=10,
        repeats=3,
        work=YEAR_BARS,
    )
    ours_s, ours = _processor_s(lambda: compute_features(joined, names))
    theirs_s, theirs = _processor_s(lambda: compute_with_pandas(frame, names))
    detail = f"{ours_s:.3g} s on all threads against {theirs_s:.3g} s"
    table.figure("… processor time, times less", theirs_s / ours_s, unit="×", detail=detail)
    shares = {name: _share_apart(ours[name].to_numpy(), theirs[name].to_numpy(), warm_up(name)) for name in names}
    worst = max(shares, key=lambda name: shares[name])
    table.figure(
        "… share of values that differ by more than 1e-6", shares[worst], at_most=1e-3, detail=f"most in {worst}"
    )
    table.figure("… seconds", found.ours_s, unit=" s")


def _processor_s(side: Callable[[], pl.DataFrame | pd.DataFrame]) -> tuple[float, pl.DataFrame | pd.DataFrame]:
    """Return the processor time of one call, of all threads together, and what it returns."""
    began = time.process_time()
    found = side()
    return time.process_time() - began, found


def _share_apart(ours: np.ndarray, theirs: np.ndarray, first: int) -> float:
    first = max(first, int(np.isfinite(ours).argmax()))
    ours, theirs = ours[first:], theirs[first:]
    usual = np.nanmedian(np.abs(ours))
    return float(
        np.mean(~(np.abs(ours - theirs) <= 1e-6 * (np.abs(ours) + usual)) & ~(np.isnan(ours) & np.isnan(theirs)))
    )


def prover_rows(table: Table) -> None:
    """Measure the leak prover on 100,000 bars, feature by feature."""
    bars, other = year_of_bars(4)[:100_000], year_of_bars(5)[:100_000]
    joined = bars.with_columns(benchmark_close=other["close"])
    names = [name for name in FEATURES if name not in BOOK]
    seconds, alarms = {}, 0
    for name in names:
        check(feature_subject(name, "1m"), joined[:20_000])
        began = time.perf_counter()
        alarms += len(check(feature_subject(name, "1m"), joined).leaks)
        seconds[name] = time.perf_counter() - began
    slowest = max(seconds, key=lambda name: seconds[name])
    detail = f"{slowest}; all {len(names)} in {sum(seconds.values()):.0f} s"
    table.figure("leak prover, slowest feature, 100,000 bars", seconds[slowest], at_most=2, unit=" s", detail=detail)
    table.figure("… false alarms", alarms, at_most=0)


def leak_rows(table: Table) -> None:
    """Count the seeded leaks that the prover finds, by a check of the future and not of the warm-up."""
    bars = year_of_bars(4)[:LEAK_BARS]
    caught = {leak.name: {found.check for found in check(leak, bars).leaks} - {"warm_up"} for leak in LEAKS}
    missed = [name for name, checks in caught.items() if not checks]
    detail = f"missed: {', '.join(missed)}" if missed else f"on {LEAK_BARS:,} bars"
    table.figure("seeded leaks caught", len(LEAKS) - len(missed), at_least=len(LEAKS), detail=detail)


def main() -> None:
    """Print the table and exit 1 where a bar is missed."""
    table = Table("Features")
    deviation_rows(table)
    digit_rows(table)
    year_rows(table)
    prover_rows(table)
    leak_rows(table)
    table.finish()


if __name__ == "__main__":
    main()
