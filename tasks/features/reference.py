"""The slow twin of every kernel: plain NumPy on one window at a time. These are the definitions; kernels must agree.

Each function has its kernel's name, arguments and NaN rule. Nothing here is fast, and nothing else may import it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def each_window(window: int, measure: Callable[..., float], *series: Array) -> Array:
    """Apply `measure` to every full window of the series; a window with a non-finite value gives NaN."""
    out = np.full(series[0].size, np.nan)
    for end in range(window, series[0].size + 1):
        parts = [values[end - window : end] for values in series]
        if all(np.isfinite(part).all() for part in parts):
            out[end - 1] = measure(*parts)
    return out


def _previous(values: Array, bars: int = 1) -> Array:
    return np.concatenate([np.full(min(bars, values.size), np.nan), values[:-bars]])


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def _flat(part: Array) -> bool:
    return bool(np.all(part == part[0]))


def rolling_sum(values: Array, window: int) -> Array:
    """Define `kernels.rolling_sum`."""
    return each_window(window, np.sum, values)


def rolling_mean(values: Array, window: int) -> Array:
    """Define `kernels.rolling_mean`."""
    return each_window(window, np.mean, values)


def rolling_std(values: Array, window: int, ddof: int = 1) -> Array:
    """Define `kernels.rolling_std`."""
    return each_window(window, lambda part: float(np.std(part, ddof=ddof)), values)


def rolling_max(values: Array, window: int) -> Array:
    """Define `kernels.rolling_max`."""
    return each_window(window, np.max, values)


def rolling_min(values: Array, window: int) -> Array:
    """Define `kernels.rolling_min`."""
    return each_window(window, np.min, values)


def rolling_quantile(values: Array, window: int, fraction: float) -> Array:
    """Define `kernels.rolling_quantile`."""
    return each_window(window, lambda part: float(np.quantile(part, fraction)), values)


def rolling_median(values: Array, window: int) -> Array:
    """Define `kernels.rolling_median`."""
    return each_window(window, np.median, values)


def rolling_skew(values: Array, window: int) -> Array:
    """Define `kernels.rolling_skew`."""

    def skew(part: Array) -> float:
        if _flat(part):
            return np.nan
        centred = part - part.mean()
        biased = np.mean(centred**3) / np.mean(centred**2) ** 1.5
        return float(np.sqrt(window * (window - 1)) / (window - 2) * biased)

    return each_window(window, skew, values)


def rolling_correlation(x: Array, y: Array, window: int) -> Array:
    """Define `kernels.rolling_correlation`."""
    return each_window(window, lambda a, b: np.nan if _flat(a) or _flat(b) else float(np.corrcoef(a, b)[0, 1]), x, y)


def rolling_beta(returns: Array, benchmark: Array, window: int) -> Array:
    """Define `kernels.rolling_beta`."""

    def slope(a: Array, b: Array) -> float:
        centred = b - b.mean()
        return np.nan if _flat(b) else float((a - a.mean()) @ centred / (centred @ centred))

    return each_window(window, slope, returns, benchmark)


def rolling_pair(x: Array, y: Array, window: int) -> tuple[Array, Array]:
    """Define `kernels.rolling_pair`."""
    return rolling_correlation(x, y, window), rolling_beta(x, y, window)


def autocorrelation(values: Array, window: int, lag: int) -> Array:
    """Define `kernels.autocorrelation`."""
    return rolling_correlation(values, _previous(values, lag), window)


def hurst(log_price: Array, window: int) -> Array:
    """Define `kernels.hurst`."""
    lags = np.array([1, 2, 8, 16])
    deviations = np.array([rolling_std(log_price - _previous(log_price, lag), window) for lag in lags])
    out = np.full(log_price.size, np.nan)
    for i in range(log_price.size):
        if np.all(deviations[:, i] > 0):
            out[i] = np.polyfit(np.log(lags), np.log(deviations[:, i]), 1)[0]
    return out


def zscore(values: Array, window: int) -> Array:
    """Define `kernels.zscore`."""
    return each_window(
        window, lambda part: np.nan if _flat(part) else float((part[-1] - part.mean()) / part.std(ddof=1)), values
    )


def bollinger(close: Array, window: int, width: float) -> tuple[Array, Array, Array]:
    """Define `kernels.bollinger`."""
    mean, deviation = rolling_mean(close, window), rolling_std(close, window, 0)
    lower, upper = mean - width * deviation, mean + width * deviation
    return lower, upper, np.where(deviation > 0, (close - lower) / np.where(deviation > 0, upper - lower, 1.0), np.nan)


def stochastic(high: Array, low: Array, close: Array, window: int, smoothing: int) -> tuple[Array, Array]:
    """Define `kernels.stochastic`."""
    top, bottom = rolling_max(high, window), rolling_min(low, window)
    raw = np.where(top > bottom, 100 * (_finite(close) - bottom) / np.where(top > bottom, top - bottom, 1.0), np.nan)
    slow = rolling_mean(raw, smoothing)
    return slow, rolling_mean(slow, smoothing)


def drawdown(close: Array, window: int) -> Array:
    """Define `kernels.drawdown`."""
    return close / rolling_max(close, window) - 1


def smooth(values: Array, window: int, weight: float) -> Array:
    """Define `kernels.smooth`: on the finite values alone, ``y = weight · x + (1 - weight) · y₋₁`` from their mean."""
    out, kept = np.full(values.size, np.nan), np.flatnonzero(np.isfinite(values))
    for place in range(window - 1, kept.size):
        i = kept[place]
        if place == window - 1:
            out[i] = values[kept[:window]].mean()
        else:
            out[i] = weight * values[i] + (1 - weight) * out[kept[place - 1]]
    return out


def ewma_mean(values: Array, window: int) -> Array:
    """Define `kernels.ewma_mean`."""
    return smooth(values, window, 2 / (window + 1))


def wilder_mean(values: Array, window: int) -> Array:
    """Define `kernels.wilder_mean`."""
    return smooth(values, window, 1 / window)


def ewma_volatility(returns: Array, decay: float) -> Array:
    """Define `kernels.ewma_volatility`."""
    return np.sqrt(smooth(returns**2, 1, 1 - decay))


def rsi(close: Array, window: int) -> Array:
    """Define `kernels.rsi`."""
    change = _finite(close) - _previous(_finite(close))
    up, down = wilder_mean(np.maximum(change, 0), window), wilder_mean(np.maximum(-change, 0), window)
    moved = up + down > 0
    return np.where(moved, 100 * up / np.where(moved, up + down, 1.0), np.nan)


def true_range(high: Array, low: Array, close: Array) -> Array:
    """Define `kernels.true_range`."""
    high, low, before = _finite(high), _finite(low), _previous(_finite(close))
    return np.maximum(high, before) - np.minimum(low, before)


def atr(high: Array, low: Array, close: Array, window: int) -> Array:
    """Define `kernels.atr`."""
    return wilder_mean(true_range(high, low, close), window)


def macd(close: Array, fast: int, slow: int, signal: int) -> tuple[Array, Array, Array]:
    """Define `kernels.macd`."""
    line = ewma_mean(close, fast) - ewma_mean(close, slow)
    smoothed = ewma_mean(line, signal)
    return line, smoothed, line - smoothed


def realised_volatility(returns: Array, window: int) -> Array:
    """Define `kernels.realised_volatility`."""
    return np.sqrt(rolling_sum(returns**2, window))


def parkinson(log_range: Array, window: int) -> Array:
    """Define `kernels.parkinson`."""
    return np.sqrt(rolling_mean(log_range**2, window) / (4 * np.log(2)))


def garman_klass(log_range: Array, log_body: Array, window: int) -> Array:
    """Define `kernels.garman_klass`."""
    mean = rolling_mean(0.5 * log_range**2 - (2 * np.log(2) - 1) * log_body**2, window)
    return np.sqrt(np.where(mean >= 0, mean, np.nan))


def yang_zhang(log_jump: Array, log_body: Array, log_up: Array, log_down: Array, window: int) -> Array:
    """Define `kernels.yang_zhang`."""
    k = 0.34 / (1.34 + (window + 1) / (window - 1))
    satchell = log_up * (log_up - log_body) + log_down * (log_down - log_body)
    variance = rolling_std(log_jump, window) ** 2 + k * rolling_std(log_body, window) ** 2
    variance = variance + (1 - k) * rolling_mean(satchell, window)
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


def _ratio(top: Array, bottom: Array) -> Array:
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def vwap(high: Array, low: Array, close: Array, volume: Array, window: int) -> tuple[Array, Array]:
    """Define `kernels.vwap`."""
    mean = _ratio(rolling_sum((high + low + close) / 3 * volume, window), rolling_sum(volume, window))
    return mean, close / mean - 1


def obv(close: Array, volume: Array) -> Array:
    """Define `kernels.obv`."""
    signed = np.sign(close - _previous(close)) * volume
    signed[:1] = volume[:1]
    return np.cumsum(np.where(np.isfinite(signed), signed, 0.0))


def obv_change(close: Array, volume: Array, window: int) -> Array:
    """Define `kernels.obv_change`."""
    return rolling_sum(np.sign(close - _previous(close)) * volume, window)


def amihud(returns: Array, close: Array, volume: Array, window: int) -> Array:
    """Define `kernels.amihud`."""
    turnover = close * volume
    traded = turnover != 0
    impact = np.where(traded, np.abs(returns) / np.where(traded, turnover, 1.0), 0.0)
    return _ratio(rolling_sum(impact, window), rolling_sum(traded.astype(float), window))


def volume_pressure(opens: Array, close: Array, volume: Array, window: int) -> Array:
    """Define `kernels.volume_pressure`."""
    return _ratio(rolling_sum(np.sign(close - opens) * volume, window), rolling_sum(volume, window))


def time_of_day(timestamps: Array) -> tuple[Array, Array]:
    """Define `kernels.time_of_day`."""
    angle = 2 * np.pi * (timestamps % 86_400_000_000 / 86_400_000_000)
    return np.sin(angle), np.cos(angle)


def usual_at_this_time(timestamps: Array, values: Array, days: int) -> Array:
    """Define `kernels.usual_at_this_time`."""
    known = dict(zip(timestamps.tolist(), values.tolist(), strict=True))
    out = np.full(values.size, np.nan)
    for i, now in enumerate(timestamps.tolist()):
        before = [known.get(now - day * 86_400_000_000, np.nan) for day in range(1, days + 1)]
        finite = [value for value in before if np.isfinite(value)]
        out[i] = np.mean(finite) if finite else np.nan
    return out


def seasonal_ratio(timestamps: Array, values: Array, days: int) -> Array:
    """Define `kernels.seasonal_ratio`."""
    return _ratio(values, usual_at_this_time(timestamps, values, days))
