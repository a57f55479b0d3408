"""Bars into columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from tasks.errors import InputError, SchemaError
from tasks.features.feature import Feature
from tasks.features.intervals import join_closed, ratio, resample
from tasks.features.registry import feature
from tasks.features.series import SERIES, SERIES_COLUMNS


def parse_name(name: str) -> tuple[Feature, str | None]:
    """Split ``rsi_14@1h`` into the feature and the interval it is computed on, None for that of the bars."""
    base, _, longer = name.partition("@")
    return feature(base), longer or None


def warm_up(name: str, interval: str | None = None) -> int:
    """Return the bars before the first value of a feature, those of a longer interval counted in bars of `interval`.

    Raises:
        InputError: The name is unknown, or names a longer interval while `interval` is None.
    """
    found, longer = parse_name(name)
    if longer is None:
        return found.warm_up
    return (found.warm_up + 2) * ratio(_needed(interval, name), longer)


def _needed(interval: str | None, name: str) -> str:
    if interval is None:
        raise InputError(f"feature {name}: expected the interval of the bars; pass interval='1m' or what they are")
    return interval


def compute_features(
    bars: pl.DataFrame,
    names: Sequence[str],
    *,
    interval: str | None = None,
    benchmark: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Compute features of one symbol's bars.

    Args:
        bars: Bars (or book rows) sorted by timestamp, with the columns that the features need.
        names: Names out of the registry; ``rsi_14@1h`` is `rsi_14` on the closed 1h bars within these bars.
        interval: The interval of `bars`; needed only for names with an ``@``.
        benchmark: Bars of the benchmark, joined on equal timestamps, for correlation and beta.

    Returns:
        ``timestamp`` and one float64 column a name: NaN in the warm-up and where the value is undefined. A row is known
        once its bar has closed.

    Raises:
        InputError: A name is unknown or given twice, or a benchmark or interval is missing.
        SchemaError: A column that a feature needs is missing.
    """
    if len(set(names)) != len(names):
        raise InputError(f"features: expected each name once, found {list(names)}")
    if benchmark is not None:
        joined = benchmark.select("timestamp", pl.col("close").alias("benchmark_close"))
        bars = bars.join(joined, on="timestamp", how="left", maintain_order="left")
    out = bars.select("timestamp")
    by_interval: dict[str | None, list[str]] = {}
    for name in names:
        by_interval.setdefault(parse_name(name)[1], []).append(name)
    for longer, group in by_interval.items():
        features = {name: parse_name(name)[0] for name in group}
        if longer is None:
            out = out.with_columns(_columns(bars, features))
            continue
        shorter = _needed(interval, group[0])
        closed = resample(bars, shorter, longer)
        values = closed.select("timestamp").with_columns(_columns(closed, features))
        out = join_closed(out, shorter, values, longer, {name: name for name in group})
        out = out.with_columns(pl.col(name).fill_null(np.nan) for name in group)
    return out.select("timestamp", *names)


def _columns(bars: pl.DataFrame, features: dict[str, Feature]) -> list[pl.Series]:
    _check_columns(bars, features)
    expressions = {name: item.expression for name, item in features.items() if item.expression is not None}
    series = {name for item in features.values() for name in item.inputs if name in SERIES and item.kernel is not None}
    frame = bars.select(
        **{f"value {name}": expression for name, expression in expressions.items()},
        **{f"series {name}": SERIES[name] for name in sorted(series)},
    )
    arrays: dict[str, np.ndarray] = {}
    results: dict[tuple[object, ...], np.ndarray | tuple[np.ndarray, ...]] = {}
    return [
        pl.Series(name, _masked(_values(name, item, bars, frame, arrays, results), _unready(item, bars)), pl.Float64)
        for name, item in features.items()
    ]


def _unready(item: Feature, bars: pl.DataFrame) -> int:
    """Return how many rows come before the first value: the warm-up, and the days the feature looks back."""
    if item.days == 0 or bars.is_empty():
        return item.warm_up
    ready = bars["timestamp"][0] + timedelta(days=item.days)
    return max(item.warm_up, int(bars["timestamp"].search_sorted(ready)))


def _values(
    name: str,
    item: Feature,
    bars: pl.DataFrame,
    frame: pl.DataFrame,
    arrays: dict[str, np.ndarray],
    results: dict[tuple[object, ...], np.ndarray | tuple[np.ndarray, ...]],
) -> np.ndarray:
    if item.kernel is None:
        return _array(frame[f"value {name}"])
    for column in item.inputs:
        if column not in arrays:
            arrays[column] = _array(frame[f"series {column}"] if column in SERIES else bars[column])
    key = (item.kernel, item.inputs, item.arguments)
    if key not in results:
        results[key] = item.kernel(*(arrays[column] for column in item.inputs), *item.arguments)
    result = results[key]
    return result[item.output] if isinstance(result, tuple) and item.output is not None else np.asarray(result)


def _array(column: pl.Series) -> np.ndarray:
    kind = np.int64 if column.dtype.is_integer() else np.float64
    return np.ascontiguousarray(column.to_numpy(writable=True), dtype=kind)


def _masked(values: np.ndarray, bars: int) -> np.ndarray:
    masked = values.astype(np.float64, copy=True)
    masked[:bars] = np.nan
    return masked


def _check_columns(bars: pl.DataFrame, features: dict[str, Feature]) -> None:
    for name, item in features.items():
        needed = [column for given in item.inputs for column in SERIES_COLUMNS.get(given, (given,))]
        missing = [column for column in needed if column not in bars.columns]
        if missing == ["benchmark_close"]:
            raise InputError(f"feature {name}: expected a benchmark; pass benchmark=<bars of the benchmark>")
        if missing:
            raise SchemaError(f"feature {name}: expected columns {needed}, missing {missing}, found {bars.columns}")
