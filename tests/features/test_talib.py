"""Features equal TA-Lib where it defines them, and pandas where it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib

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


def _returns(frame: pd.DataFrame, column: str = "close") -> pd.Series:
    return np.log(frame[column] / frame[column].shift(1))


def _log(top: pd.Series, bottom: pd.Series) -> pd.Series:
    return np.log(top / bottom)


def _yang_zhang(f: pd.DataFrame) -> pd.Series:
    satchell = _log(f.high, f.close) * _log(f.high, f.open) + _log(f.low, f.close) * _log(f.low, f.open)
    overnight, body = _log(f.open, f.close.shift(1)).rolling(20).var(), _log(f.close, f.open).rolling(20).var()
    k = 0.34 / (1.34 + 21 / 19)
    return np.sqrt(overnight + k * body + (1 - k) * satchell.rolling(20).mean())


def _seasonality(f: pd.DataFrame) -> pd.Series:
    volume = f.set_index("timestamp").volume
    before = pd.concat([volume.shift(freq=f"{day}D").reindex(volume.index) for day in range(1, 6)], axis=1)
    return (volume / before.mean(axis=1)).reset_index(drop=True)


def _mixed(f: pd.DataFrame) -> pd.Series:
    return 0.5 * _log(f.high, f.low) ** 2 - (2 * np.log(2) - 1) * _log(f.close, f.open) ** 2


def _bands(f: pd.DataFrame) -> pd.Series:
    rolling = f.close.rolling(20)
    return (f.close - rolling.mean() + 2 * rolling.std(ddof=0)) / (4 * rolling.std(ddof=0))


def _vwap(f: pd.DataFrame) -> pd.Series:
    return ((f.high + f.low + f.close) / 3 * f.volume).rolling(60).sum() / f.volume.rolling(60).sum()


def _hurst(f: pd.DataFrame) -> pd.Series:
    deviations = [np.log2(np.log(f.close).diff(lag).rolling(240).std()) for lag in (1, 2, 4, 8, 16)]
    return sum(weight * deviation for weight, deviation in zip((-0.2, -0.1, 0, 0.1, 0.2), deviations, strict=True))


#: Feature → the same by pandas.
PANDAS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "log_return_1": _returns,
    "zscore_20": lambda f: (f.close - f.close.rolling(20).mean()) / f.close.rolling(20).std(),
    "median_20": lambda f: f.close.rolling(20).median(),
    "quantile_90_100": lambda f: f.close.rolling(100).quantile(0.9),
    "skew_60": lambda f: _returns(f).rolling(60).skew(),
    "autocorrelation_60": lambda f: _returns(f).rolling(60).corr(_returns(f).shift(1)),
    "beta_60": lambda f: (
        _returns(f).rolling(60).cov(_returns(f, "benchmark_close")) / _returns(f, "benchmark_close").rolling(60).var()
    ),
    "hurst_240": _hurst,
    "ewma_volatility": lambda f: np.sqrt((_returns(f) ** 2).ewm(alpha=0.06, adjust=False).mean()),
    "realised_volatility_60": lambda f: np.sqrt((_returns(f) ** 2).rolling(60).sum()),
    "parkinson_20": lambda f: np.sqrt((_log(f.high, f.low) ** 2).rolling(20).mean() / (4 * np.log(2))),
    "garman_klass_20": lambda f: np.sqrt(_mixed(f).rolling(20).mean()),
    "yang_zhang_20": _yang_zhang,
    "range": lambda f: (f.high - f.low) / f.close,
    "bollinger_position": _bands,
    "close_location": lambda f: (2 * f.close - f.high - f.low) / (f.high - f.low),
    "vwap_60": _vwap,
    "vwap_distance_60": lambda f: f.close / _vwap(f) - 1,
    "amihud_60": lambda f: (_returns(f).abs() / (f.close * f.volume)).rolling(60).mean(),
    "volume_pressure_60": lambda f: (
        (np.sign(f.close - f.open) * f.volume).rolling(60).sum() / f.volume.rolling(60).sum()
    ),
    "drawdown_1440": lambda f: f.close / f.close.rolling(1440).max() - 1,
    "volume_seasonality_5d": _seasonality,
    "time_of_day_sin": lambda f: np.sin(2 * np.pi * (f.timestamp.dt.hour * 60 + f.timestamp.dt.minute) / 1440),
    "time_of_day_cos": lambda f: np.cos(2 * np.pi * (f.timestamp.dt.hour * 60 + f.timestamp.dt.minute) / 1440),
}


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


@pytest.mark.parametrize("name", [name for name in PANDAS if name != "volume_seasonality_5d"])
def test_a_feature_equals_pandas(name: str, busy: pl.DataFrame) -> None:
    """What TA-Lib does not define equals a few lines of pandas."""
    frame = pd.DataFrame({column: busy[column].to_numpy() for column in busy.columns})
    with np.errstate(invalid="ignore", divide="ignore"):
        assert_equal(name, busy, PANDAS[name](frame).to_numpy())


def test_the_volume_season_equals_pandas(busy: pl.DataFrame) -> None:
    """Volume over its mean at the same minute of the five days before, once five days have passed."""
    frame = pd.DataFrame({"timestamp": busy["timestamp"].to_numpy(), "volume": busy["volume"].to_numpy()})
    found = compute_features(busy, ["volume_seasonality_5d"])["volume_seasonality_5d"].to_numpy()
    np.testing.assert_allclose(found[7200:], _seasonality(frame).to_numpy()[7200:], rtol=1e-12)


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
