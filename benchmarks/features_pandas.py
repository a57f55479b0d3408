"""The features of the registry as a pandas user writes them, for comparison of speed and values.

Plain `rolling`, `ewm` and column arithmetic, no `apply`; what several features start from is made once (`Bars`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

# Series and frames of them; annotated loosely, for type checkers take what NumPy makes of a Series for an array.
Frame = Any
Column = Any


class Bars:
    """Columns of bars, and the series that several features share, each computed when it is first asked for."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def __getattr__(self, name: str) -> Column:
        return self.frame[name]

    @cached_property
    def r(self) -> Column:
        """Log returns."""
        return _log(self.close, self.close.shift(1))

    @cached_property
    def b(self) -> Column:
        """Log returns of the benchmark."""
        return _log(self.benchmark_close, self.benchmark_close.shift(1))

    @cached_property
    def mean(self) -> Column:
        """Mean of 20 closes."""
        return self.close.rolling(20).mean()

    @cached_property
    def std(self) -> Column:
        """Sample deviation of 20 closes."""
        return self.close.rolling(20).std()

    @cached_property
    def reach(self) -> Column:
        """Two population deviations of 20 closes."""
        return 2 * self.close.rolling(20).std(ddof=0)

    @cached_property
    def macd(self) -> Column:
        """MACD line."""
        return self.close.ewm(span=12, adjust=False).mean() - self.close.ewm(span=26, adjust=False).mean()

    @cached_property
    def signal(self) -> Column:
        """MACD's signal line."""
        return self.macd.ewm(span=9, adjust=False).mean()

    @cached_property
    def stochastic(self) -> Column:
        """Slow %K."""
        bottom = self.low.rolling(14).min()
        return (100 * (self.close - bottom) / (self.high.rolling(14).max() - bottom)).rolling(3).mean()

    @cached_property
    def volumes(self) -> Column:
        """Volume of 60 bars."""
        return self.volume.rolling(60).sum()

    @cached_property
    def vwap(self) -> Column:
        """Volume-weighted mean price of 60 bars."""
        return ((self.high + self.low + self.close) / 3 * self.volume).rolling(60).sum() / self.volumes


def _log(top: Column, bottom: Column) -> Column:
    return np.log(top / bottom)


def _wilder(values: Column, window: int) -> Column:
    return values.ewm(alpha=1 / window, adjust=False).mean()


def _true_range(f: Bars) -> Column:
    before = f.close.shift(1)
    return np.maximum(f.high, before) - np.minimum(f.low, before)


def _rsi(f: Bars) -> Column:
    change = f.close.diff()
    up, down = _wilder(change.clip(lower=0), 14), _wilder(-change.clip(upper=0), 14)
    return 100 * up / (up + down)


def _garman_klass(f: Bars) -> Column:
    mixed = 0.5 * _log(f.high, f.low) ** 2 - (2 * np.log(2) - 1) * _log(f.close, f.open) ** 2
    return np.sqrt(mixed.rolling(20).mean())


def _yang_zhang(f: Bars) -> Column:
    satchell = _log(f.high, f.close) * _log(f.high, f.open) + _log(f.low, f.close) * _log(f.low, f.open)
    overnight, body = _log(f.open, f.close.shift(1)).rolling(20).var(), _log(f.close, f.open).rolling(20).var()
    k = 0.34 / (1.34 + 21 / 19)
    return np.sqrt(overnight + k * body + (1 - k) * satchell.rolling(20).mean())


def _hurst(f: Bars) -> Column:
    log_close = np.log(f.close)
    deviations = [np.log2(log_close.diff(lag).rolling(240).std()) for lag in (1, 2, 8, 16)]
    return sum(weight * item for weight, item in zip((-0.2, -0.1, 0.1, 0.2), deviations, strict=True))


def _seasonality(f: Bars) -> Column:
    volume = f.frame.set_index("timestamp").volume
    every_minute = volume.asfreq("min")
    before = pd.concat([every_minute.shift(1440 * day) for day in range(1, 6)], axis=1).mean(axis=1)
    return (volume / before.reindex(volume.index)).reset_index(drop=True)


def _pressure(f: Bars) -> Column:
    return (np.sign(f.close - f.open) * f.volume).rolling(60).sum() / f.volumes


def _angle(f: Bars) -> Column:
    return 2 * np.pi * (f.timestamp.dt.hour * 60 + f.timestamp.dt.minute) / 1440


#: Feature → its pandas form.
PANDAS: dict[str, Callable[[Bars], Column]] = {
    "mean_20": lambda f: f.mean,
    "std_20": lambda f: f.std,
    "zscore_20": lambda f: (f.close - f.mean) / f.std,
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
    "macd": lambda f: f.macd,
    "macd_signal": lambda f: f.signal,
    "macd_histogram": lambda f: f.macd - f.signal,
    "bollinger_lower": lambda f: f.mean - f.reach,
    "bollinger_upper": lambda f: f.mean + f.reach,
    "bollinger_position": lambda f: (f.close - (f.mean - f.reach)) / (2 * f.reach),
    "stochastic_k": lambda f: f.stochastic,
    "stochastic_d": lambda f: f.stochastic.rolling(3).mean(),
    "close_location": lambda f: (2 * f.close - f.high - f.low) / (f.high - f.low),
    "vwap_60": lambda f: f.vwap,
    "vwap_distance_60": lambda f: f.close / f.vwap - 1,
    "obv_60": lambda f: (np.sign(f.close.diff()) * f.volume).rolling(60).sum(),
    "amihud_60": lambda f: (f.r.abs() / (f.close * f.volume)).rolling(60).mean(),
    "volume_pressure_60": _pressure,
    "volume_seasonality_5d": _seasonality,
    "time_of_day_sin": lambda f: np.sin(_angle(f)),
    "time_of_day_cos": lambda f: np.cos(_angle(f)),
}


def compute_with_pandas(bars: Frame, names: Sequence[str]) -> Frame:
    """Compute the named features of bars that have a `benchmark_close`."""
    frame = Bars(bars)
    return pd.DataFrame({name: PANDAS[name](frame) for name in names})
