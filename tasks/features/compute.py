"""Bars into columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from tasks.errors import InputError, SchemaError
from tasks.features.feature import Feature
from tasks.features.intervals import join_closed, ratio, resample
from tasks.features.registry import feature
from tasks.features.series import SERIES

#: From here on a pool of threads costs less than it saves.
_MANY_BARS = 50_000
_MOST_THREADS = 8


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
    expressions = {
        name: item.expression.cast(pl.Float64).fill_null(np.nan)
        for name, item in features.items()
        if item.expression is not None
    }
    frame = bars.select(**expressions)
    results = _run(bars, [item for item in features.values() if item.kernel is not None])
    columns = []
    for name, item in features.items():
        if item.kernel is None:
            columns.append(frame[name])
            continue
        values = results[_call(item)]
        if isinstance(values, tuple):
            values = values[item.output or 0]
        values[: _unready(item, bars)] = np.nan
        columns.append(pl.Series(name, values, pl.Float64))
    return columns


def _call(item: Feature) -> tuple[object, ...]:
    """Return what a kernel call depends on: features that differ only in `output` share one."""
    return item.kernel, item.inputs, item.arguments


def _run(bars: pl.DataFrame, items: list[Feature]) -> dict[tuple[object, ...], np.ndarray | tuple[np.ndarray, ...]]:
    """Call every kernel once, on several threads where the bars are many: kernels release the GIL."""
    calls = {_call(item): item for item in items}
    names = list(dict.fromkeys(name for item in items for name in item.inputs))
    columns = {column: _array(bars[column]) for name in names for column in _bar_columns(name)}

    def start(name: str) -> np.ndarray:
        return SERIES[name].make(*(columns[column] for column in SERIES[name].columns))

    def run(item: Feature) -> np.ndarray | tuple[np.ndarray, ...]:
        assert item.kernel is not None  # noqa: S101  # the caller chose those with one
        return item.kernel(*(columns[name] for name in item.inputs), *item.arguments)

    with _workers(bars.height) as each:
        made = [name for name in names if name in SERIES]
        columns |= zip(made, each(start, made), strict=True)
        return dict(zip(calls, each(run, calls.values()), strict=True))


@contextmanager
def _workers(bars: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield `map`, on threads where the bars are many."""
    if bars < _MANY_BARS:
        yield map
        return
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        yield pool.map


def _bar_columns(name: str) -> tuple[str, ...]:
    return SERIES[name].columns if name in SERIES else (name,)


def _unready(item: Feature, bars: pl.DataFrame) -> int:
    """Return how many rows come before the first value: the warm-up, and the days the feature looks back."""
    if item.days == 0 or bars.is_empty():
        return item.warm_up
    ready = bars["timestamp"][0] + timedelta(days=item.days)
    return max(item.warm_up, int(bars["timestamp"].search_sorted(ready)))


def _array(column: pl.Series) -> np.ndarray:
    """Return the column as a fresh array: nulls as NaN, times as microseconds since the epoch."""
    if column.dtype == pl.Datetime:
        return column.dt.timestamp("us").to_numpy(writable=True)
    return column.cast(pl.Float64).to_numpy(writable=True)


def _check_columns(bars: pl.DataFrame, features: dict[str, Feature]) -> None:
    for name, item in features.items():
        needed = [column for given in item.inputs for column in _bar_columns(given)]
        missing = [column for column in needed if column not in bars.columns]
        if missing == ["benchmark_close"]:
            raise InputError(f"feature {name}: expected a benchmark; pass benchmark=<bars of the benchmark>")
        if missing:
            raise SchemaError(f"feature {name}: expected columns {needed}, missing {missing}, found {bars.columns}")
