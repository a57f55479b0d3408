"""Feature tables follow the lake's bars, a piece at a time."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from tasks.errors import InputError
from tasks.features import build as building
from tasks.features.build import build
from tasks.features.compute import compute_features
from tasks.features.registry import BAR_FEATURES
from tasks.features.task import build_features

NAMES = ("zscore_20", "rsi_14", "macd_signal", "mean_20@1h", "log_return_1")


def write(lake: Lake, bars: pl.DataFrame, symbol: str = "BTCUSDT") -> None:
    """Write bars into the lake as 1m bars of a symbol."""
    end = bars["timestamp"][-1] + timedelta(minutes=1)
    lake.write_bars(bars, symbol=symbol, interval="1m", start=bars["timestamp"][0], end=end)


def stored(lake: Lake) -> pl.DataFrame:
    """Return the symbol's feature rows, in order."""
    return lake.scan("features/1m").filter(symbol="BTCUSDT").sort("timestamp").collect()


def assert_same(found: pl.DataFrame, expected: pl.DataFrame, names: tuple[str, ...] = NAMES) -> None:
    """Assert equal rows, values to 1e-9: recursive averages start elsewhere."""
    assert found["timestamp"].equals(expected["timestamp"])
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_table_built_in_pieces_equals_one_built_at_once(tmp_path: Path, bars: pl.DataFrame) -> None:
    """Bars that arrive in three lots give the features that all bars give, and only new rows are computed."""
    lake = Lake(tmp_path)
    counts = []
    for part in (bars[:1500], bars[1500:1501], bars[1501:]):
        write(lake, part)
        counts.append((build(lake, "BTCUSDT", "1m", NAMES).rows, part.height))
    assert all(rows == height for rows, height in counts)
    assert_same(stored(lake), compute_features(bars, NAMES, interval="1m"))
    assert build(lake, "BTCUSDT", "1m", NAMES).rows == 0


def test_a_revised_bar_is_built_anew(tmp_path: Path, bars: pl.DataFrame) -> None:
    """A bar revised in the past outdates the stored rows: the next build computes everything again."""
    lake = Lake(tmp_path)
    write(lake, bars)
    build(lake, "BTCUSDT", "1m", NAMES)
    revised = bars.with_columns(pl.when(pl.int_range(pl.len()) == 800).then(29_000.0).otherwise("close").alias("close"))
    write(lake, revised[800:801])
    assert build(lake, "BTCUSDT", "1m", NAMES).rows == bars.height
    assert_same(stored(lake), compute_features(revised, NAMES, interval="1m"))


def test_other_code_or_columns_build_anew(tmp_path: Path, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored rows of older code, or with other columns, are not continued."""
    lake = Lake(tmp_path)
    write(lake, bars[:1000])
    build(lake, "BTCUSDT", "1m", NAMES)
    assert build(lake, "BTCUSDT", "1m", [*NAMES, "atr_14"]).rows == 1000
    assert build(lake, "BTCUSDT", "1m", [*NAMES, "atr_14"]).rows == 0
    monkeypatch.setattr(building, "features_code", lambda: "other")
    assert build(lake, "BTCUSDT", "1m", [*NAMES, "atr_14"]).rows == 1000


def test_a_range_is_computed_with_its_warm_up(tmp_path: Path, bars: pl.DataFrame) -> None:
    """Rows of an asked range equal those of a full build, the first ones too; rows outside stay."""
    lake = Lake(tmp_path)
    write(lake, bars)
    start, end = bars["timestamp"][2000], bars["timestamp"][2100]
    assert build(lake, "BTCUSDT", "1m", NAMES, start, end).rows == 100
    assert_same(stored(lake), compute_features(bars, NAMES, interval="1m")[2000:2100])
    assert build(lake, "BTCUSDT", "1m", NAMES, bars["timestamp"][2090], end + timedelta(minutes=10)).rows == 20
    assert_same(stored(lake), compute_features(bars, NAMES, interval="1m")[2000:2110])


def test_a_range_of_other_columns_leaves_no_holes(tmp_path: Path, bars: pl.DataFrame) -> None:
    """Who writes other columns into a range outdates the build around it, whose columns are gone there."""
    lake = Lake(tmp_path)
    write(lake, bars[:1000])
    build(lake, "BTCUSDT", "1m", NAMES)
    build(lake, "BTCUSDT", "1m", ["atr_14"], bars["timestamp"][500], bars["timestamp"][600])
    write(lake, bars[1000:])
    build(lake, "BTCUSDT", "1m", NAMES)
    assert_same(stored(lake), compute_features(bars, NAMES, interval="1m"))


def test_years_are_partitions_and_symbols_are_apart(tmp_path: Path, bars: pl.DataFrame) -> None:
    """Bars across New Year land in two partitions, and another symbol's rows are untouched."""
    lake = Lake(tmp_path)
    shifted = bars.with_columns(pl.col("timestamp") + timedelta(days=302))
    write(lake, shifted)
    write(lake, bars[:500], "ETHUSDT")
    build(lake, "ETHUSDT", "1m", NAMES)
    build(lake, "BTCUSDT", "1m", NAMES)
    assert stored(lake)["year"].unique().sort().to_list() == [2024, 2025]
    assert_same(stored(lake), compute_features(shifted, NAMES, interval="1m"))
    assert lake.scan("features/1m").filter(symbol="ETHUSDT").collect().height == 500


def test_the_door_returns_a_receipt(tmp_path: Path, bars: pl.DataFrame) -> None:
    """The task's plain function runs without Prefect and says what was done; unknown symbols are an input error."""
    write(Lake(tmp_path), bars)
    receipt = build_features.fn(str(tmp_path), "BTCUSDT", "1m")
    assert (receipt.symbol, receipt.rows, receipt.columns) == ("BTCUSDT", bars.height, len(BAR_FEATURES))
    with pytest.raises(InputError, match="run a backfill"):
        build_features.fn(str(tmp_path), "NOPE", "1m")


def test_importing_the_door_loads_no_numba() -> None:
    """Flows import the door; the compiler loads only when features are computed."""
    code = "import sys, tasks.features.task; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
