"""Features equal TA-Lib where it defines them, and pandas where it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib

from benchmarks.features_pandas import PANDAS, compute_with_pandas
from tasks.features import kernels
from tasks.features.compute import compute_features, warm_up

Columns = dict[str, np.ndarray]

#: Feature → the same by TA-Lib, of arrays o, h, l, c, v.
TALIB: dict[str, Callable[[Columns], np.ndarray]] = {
    "mean_20": lambda b: talib.SMA(b["close"], 20),
    "ewma_20": lambda b: talib.EMA(b["close"], 20),
    "min_20": lambda b: talib.MIN(b["low"], 20),
    "max_20": lambda b: talib.MAX(b["high"], 20),
    "std_20": lambda b: talib.STDDEV(b["close"], 20) * np.sqrt(20 / 19),
    "return_1": lambda b: talib.ROCP(b["close"], 1),
    "momentum_20": lambda b: talib.ROCP(b["close"], 20),
    "atr_14": lambda b: talib.ATR(b["high"], b["low"], b["close"], 14),
    "rsi_14": lambda b: talib.RSI(b["close"], 14),
    "macd": lambda b: talib.MACD(b["close"], 12, 26, 9)[0],
    "macd_signal": lambda b: talib.MACD(b["close"], 12, 26, 9)[1],
    "macd_histogram": lambda b: talib.MACD(b["close"], 12, 26, 9)[2],
    "bollinger_upper": lambda b: talib.BBANDS(b["close"], 20, 2.0, 2.0)[0],
    "bollinger_lower": lambda b: talib.BBANDS(b["close"], 20, 2.0, 2.0)[2],
    "stochastic_k": lambda b: talib.STOCH(b["high"], b["low"], b["close"], 14, 3, 0, 3, 0)[0],
    "stochastic_d": lambda b: talib.STOCH(b["high"], b["low"], b["close"], 14, 3, 0, 3, 0)[1],
    "obv_60": lambda b: talib.OBV(b["close"], b["volume"]) - np.roll(talib.OBV(b["close"], b["volume"]), 60),
    "correlation_60": lambda b: talib.CORREL(_log_return(b["close"]), _log_return(b["benchmark_close"]), 60),
}


def _log_return(close: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.diff(np.log(close))])


#: What TA-Lib does not define is compared with a few lines of pandas; the season of the volume has a test of its own.
IN_PANDAS = [name for name in PANDAS if name not in TALIB and name != "volume_seasonality_5d"]


@pytest.fixture(scope="module")
def busy(make_bars: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    """Ten days of minutes in which every minute trades, with a benchmark: TA-Lib knows no holes."""
    bars, other = make_bars(14_400, quiet=0.0), make_bars(14_400, seed=9, quiet=0.0)
    return bars.with_columns(benchmark_close=other["close"])


def assert_equal(name: str, bars: pl.DataFrame, expected: np.ndarray) -> None:
    """Assert equality to 1e-8 of the value or of the column's usual size, from the first bar that both give."""
    found, first = (
        compute_features(bars, [name])[name].to_numpy(),
        max(warm_up(name), int(np.isfinite(expected).argmax())),
    )
    assert first <= warm_up(name) + 2  # TA-Lib starts %K when it has %D
    usual = np.nanmedian(np.abs(expected[first:]))
    np.testing.assert_allclose(found[first:], expected[first:], rtol=1e-8, atol=1e-8 * usual, err_msg=name)


@pytest.mark.parametrize("name", TALIB)
def test_a_feature_equals_ta_lib(name: str, busy: pl.DataFrame) -> None:
    """What TA-Lib defines has TA-Lib's values."""
    columns = {column: busy[column].to_numpy() for column in busy.columns if column != "timestamp"}
    assert_equal(name, busy, TALIB[name](columns))


def pandas_of(bars: pl.DataFrame, name: str) -> np.ndarray:
    """Return the feature as pandas computes it."""
    frame = pd.DataFrame({column: bars[column].to_numpy() for column in bars.columns})
    with np.errstate(invalid="ignore", divide="ignore"):
        return compute_with_pandas(frame, [name])[name].to_numpy()


@pytest.mark.parametrize("name", IN_PANDAS)
def test_a_feature_equals_pandas(name: str, busy: pl.DataFrame) -> None:
    """What TA-Lib does not define equals a few lines of pandas."""
    assert_equal(name, busy, pandas_of(busy, name))


def test_the_volume_season_equals_pandas(busy: pl.DataFrame) -> None:
    """Volume over its mean at the same minute of the five days before, once five days have passed."""
    found = compute_features(busy, ["volume_seasonality_5d"])["volume_seasonality_5d"].to_numpy()
    np.testing.assert_allclose(found[7200:], pandas_of(busy, "volume_seasonality_5d")[7200:], rtol=1e-12)


def test_beta_is_ta_libs_of_the_same_returns(busy: pl.DataFrame) -> None:
    """TA-Lib's BETA takes prices and makes simple returns itself; on those ours has its values."""
    close, other = busy["close"].to_numpy(), busy["benchmark_close"].to_numpy()
    returns, benchmark = talib.ROCP(close, 1), talib.ROCP(other, 1)
    expected = talib.BETA(other, close, 60)
    np.testing.assert_allclose(kernels.rolling_beta(returns, benchmark, 60)[60:], expected[60:], rtol=1e-8, atol=1e-10)


def test_cumulative_obv_is_ta_libs(busy: pl.DataFrame) -> None:
    """On-balance volume from the first bar on equals TA-Lib's OBV."""
    close, volume = busy["close"].to_numpy(), busy["volume"].to_numpy()
    np.testing.assert_allclose(kernels.obv(close, volume), talib.OBV(close, volume), rtol=1e-9, atol=1e-6)


def test_where_we_part_from_ta_lib() -> None:
    """On flat prices RSI and stochastic are undefined and say so; TA-Lib's 0 there would read as oversold."""
    flat = np.full(60, 5.0)
    assert talib.RSI(flat, 14)[-1] == 0.0
    assert np.isnan(kernels.rsi(flat, 14)).all()
    assert np.isnan(kernels.stochastic(flat, flat, flat, 14, 3)[0]).all()


def test_every_feature_of_bars_is_compared_with_someone() -> None:
    """No feature but those of order books, which have their own test, goes without an outside judge."""
    from tasks.features.registry import FEATURES

    assert set(TALIB) | set(PANDAS) == set(FEATURES) - {"microprice", "imbalance", "pressure_ratio"}
