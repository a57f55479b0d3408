"""The features of the registry as a pandas user writes them, for comparison of speed and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

# Series and frames of them; annotated loosely, for type checkers take what NumPy makes of a Series for an array.
Frame = Any
Column = Any


def _log(top: Column, bottom: Column) -> Column:
    return np.log(top / bottom)


def _wilder(values: Column, window: int) -> Column:
    return values.ewm(alpha=1 / window, adjust=False).mean()


def _true_range(f: Frame) -> Column:
    before = f.close.shift(1)
    return np.maximum(f.high, before) - np.minimum(f.low, before)


def _rsi(f: Frame) -> Column:
    change = f.close.diff()
    up, down = _wilder(change.clip(lower=0), 14), _wilder(-change.clip(upper=0), 14)
    return 100 * up / (up + down)


def _macd(f: Frame) -> Column:
    return f.close.ewm(span=12, adjust=False).mean() - f.close.ewm(span=26, adjust=False).mean()


def _signal(f: Frame) -> Column:
    return _macd(f).ewm(span=9, adjust=False).mean()


def _stochastic(f: Frame) -> Column:
    bottom = f.low.rolling(14).min()
    return (100 * (f.close - bottom) / (f.high.rolling(14).max() - bottom)).rolling(3).mean()


def _garman_klass(f: Frame) -> Column:
    mixed = 0.5 * _log(f.high, f.low) ** 2 - (2 * np.log(2) - 1) * _log(f.close, f.open) ** 2
    return np.sqrt(mixed.rolling(20).mean())


def _yang_zhang(f: Frame) -> Column:
    satchell = _log(f.high, f.close) * _log(f.high, f.open) + _log(f.low, f.close) * _log(f.low, f.open)
    overnight, body = _log(f.open, f.close.shift(1)).rolling(20).var(), _log(f.close, f.open).rolling(20).var()
    k = 0.34 / (1.34 + 21 / 19)
    return np.sqrt(overnight + k * body + (1 - k) * satchell.rolling(20).mean())


def _vwap(f: Frame) -> Column:
    return ((f.high + f.low + f.close) / 3 * f.volume).rolling(60).sum() / f.volume.rolling(60).sum()


def _band(f: Frame, sign: int) -> Column:
    return f.close.rolling(20).mean() + sign * 2 * f.close.rolling(20).std(ddof=0)


def _hurst(f: Frame) -> Column:
    log_close = np.log(f.close)
    deviations = [np.log2(log_close.diff(lag).rolling(240).std()) for lag in (1, 2, 8, 16)]
    return sum(weight * item for weight, item in zip((-0.2, -0.1, 0.1, 0.2), deviations, strict=True))


def _seasonality(f: Frame) -> Column:
    volume = f.set_index("timestamp").volume
    before = pd.concat([volume.shift(freq=f"{day}D").reindex(volume.index) for day in range(1, 6)], axis=1)
    return (volume / before.mean(axis=1)).reset_index(drop=True)


def _pressure(f: Frame) -> Column:
    return (np.sign(f.close - f.open) * f.volume).rolling(60).sum() / f.volume.rolling(60).sum()


def _angle(f: Frame) -> Column:
    return 2 * np.pi * (f.timestamp.dt.hour * 60 + f.timestamp.dt.minute) / 1440


#: Feature → its pandas form; ``r`` and ``b`` are the log returns of close and benchmark, made once.
PANDAS: dict[str, Callable[[Frame], Column]] = {
    "mean_20": lambda f: f.close.rolling(20).mean(),
    "std_20": lambda f: f.close.rolling(20).std(),
    "zscore_20": lambda f: (f.close - f.close.rolling(20).mean()) / f.close.rolling(20).std(),
    "min_20": lambda f: f.low.rolling(20).min(),
    "max_20": lambda f: f.high.rolling(20).max(),
    "median_20": lambda f: f.close.rolling(20).median(),
    "quantile_90_100": lambda f: f.close.rolling(100).quantile(0.9),
    "ewma_20": lambda f: f.close.ewm(span=20, adjust=False).mean(),
    "drawdown_1440": lambda f: f.close / f.close.rolling(1440).max() - 1,
    "return_1": lambda f: f.close / f.close.shift(1) - 1,
    "log_return_1": lambda f: _log(f.close, f.close.shift(1)),
    "momentum_20": lambda f: f.close / f.close.shift(20) - 1,
    "skew_60": lambda f: f.r.rolling(60).skew(),
    "autocorrelation_60": lambda f: f.r.rolling(60).corr(f.r.shift(1)),
    "hurst_240": _hurst,
    "correlation_60": lambda f: f.r.rolling(60).corr(f.b),
    "beta_60": lambda f: f.r.rolling(60).cov(f.b) / f.b.rolling(60).var(),
    "ewma_volatility": lambda f: np.sqrt((f.r**2).ewm(alpha=0.06, adjust=False).mean()),
    "realised_volatility_60": lambda f: np.sqrt((f.r**2).rolling(60).sum()),
    "parkinson_20": lambda f: np.sqrt((_log(f.high, f.low) ** 2).rolling(20).mean() / (4 * np.log(2))),
    "garman_klass_20": _garman_klass,
    "yang_zhang_20": _yang_zhang,
    "atr_14": lambda f: _wilder(_true_range(f), 14),
    "range": lambda f: (f.high - f.low) / f.close,
    "rsi_14": _rsi,
    "macd": _macd,
    "macd_signal": _signal,
    "macd_histogram": lambda f: _macd(f) - _signal(f),
    "bollinger_lower": lambda f: _band(f, -1),
    "bollinger_upper": lambda f: _band(f, 1),
    "bollinger_position": lambda f: (f.close - _band(f, -1)) / (_band(f, 1) - _band(f, -1)),
    "stochastic_k": _stochastic,
    "stochastic_d": lambda f: _stochastic(f).rolling(3).mean(),
    "close_location": lambda f: (2 * f.close - f.high - f.low) / (f.high - f.low),
    "vwap_60": _vwap,
    "vwap_distance_60": lambda f: f.close / _vwap(f) - 1,
    "obv_60": lambda f: (np.sign(f.close.diff()) * f.volume).rolling(60).sum(),
    "amihud_60": lambda f: (f.r.abs() / (f.close * f.volume)).rolling(60).mean(),
    "volume_pressure_60": _pressure,
    "volume_seasonality_5d": _seasonality,
    "time_of_day_sin": lambda f: np.sin(_angle(f)),
    "time_of_day_cos": lambda f: np.cos(_angle(f)),
}


def compute_with_pandas(bars: Frame, names: Sequence[str]) -> Frame:
    """Compute the named features of bars that have a `benchmark_close`."""
    frame: Frame = bars.assign(
        r=_log(bars.close, bars.close.shift(1)), b=_log(bars.benchmark_close, bars.benchmark_close.shift(1))
    )
    return pd.DataFrame({name: PANDAS[name](frame) for name in names})
