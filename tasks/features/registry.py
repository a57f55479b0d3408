"""Every feature by name. `docs/features.md` shows this table; a test keeps the two alike.

To add one, write its kernel and slow twin (or its expression) and a line here; the tests that every feature must pass
(causal, twin, inputs unmodified, warm-up) then run on it by themselves.
"""

from __future__ import annotations

import math

from tasks.errors import InputError
from tasks.features import expressions, kernels
from tasks.features.feature import Feature

#: A recursive average has forgotten its start once the start's weight is below this.
_FORGOTTEN = 1e-12


def recursion_bars(weight: float, seed: int = 0) -> int:
    """Return the bars after which an average of that weight has forgotten its start, its `seed` bars included.

    After k bars (1 - weight)**k of the start is left; k is the least for which that is below 1e-12.
    """
    if weight >= 1.0:
        return seed
    return seed + math.ceil(math.log(_FORGOTTEN) / math.log1p(-weight))


_RANGE = ("log_range",)
_BODY = ("log_range", "log_body")
_LOGS = ("log_jump", "log_body", "log_up", "log_down")
_HLC = ("high", "low", "close")
_HLCV = ("high", "low", "close", "volume")
_BOOK = ("bid_price", "bid_size", "ask_price", "ask_size")
_CLOSE = ("close",)
_RETURN = ("close_log_return",)
_PAIR = ("close_log_return", "benchmark_log_return")
_MACD_BARS = recursion_bars(2 / 27, 26) + recursion_bars(2 / 10, 9)


def _level() -> list[Feature]:
    k = kernels
    return [
        Feature("mean_20", "price", 19, _CLOSE, "mean of close", "exact mean", k.rolling_mean, (20,)),
        Feature("std_20", "price", 19, _CLOSE, "sample deviation of close", "anchored sums", k.rolling_std, (20,)),
        Feature("zscore_20", "deviations", 19, _CLOSE, "(close − mean_20) / std_20", "–", k.zscore, (20,)),
        Feature("min_20", "price", 19, ("low",), "lowest low", "Donchian", k.rolling_min, (20,)),
        Feature("max_20", "price", 19, ("high",), "highest high", "Donchian", k.rolling_max, (20,)),
        Feature("median_20", "price", 19, _CLOSE, "median of close", "–", k.rolling_median, (20,)),
        Feature("quantile_90_100", "price", 99, _CLOSE, "0.9 quantile of close", "–", k.rolling_quantile, (100, 0.9)),
        Feature("ewma_20", "price", recursion_bars(2 / 21, 20), _CLOSE, "EMA of close", "TA-Lib", k.ewma_mean, (20,)),
        Feature("drawdown_1440", "fraction", 1439, _CLOSE, "close / max(close) − 1", "–", k.drawdown, (1440,)),
    ]


def _returns() -> list[Feature]:
    k = kernels
    close_1, close_20 = expressions.simple_return("close", 1), expressions.simple_return("close", 20)
    return [
        Feature("return_1", "fraction", 1, _CLOSE, "close / close₋₁ − 1", "–", expression=close_1),
        Feature(
            "log_return_1", "log", 1, _CLOSE, "ln(close / close₋₁)", "–", expression=expressions.log_return("close", 1)
        ),
        Feature("momentum_20", "fraction", 20, _CLOSE, "close / close₋₂₀ − 1", "–", expression=close_20),
        Feature("skew_60", "1", 60, _RETURN, "G1 of log returns", "pandas", k.rolling_skew, (60,)),
        Feature("autocorrelation_60", "-1..1", 61, _RETURN, "corr(r, r₋₁)", "pandas", k.autocorrelation, (60, 1)),
        Feature(
            "hurst_240",
            "1",
            255,
            ("log_close",),
            "slope of ln σ(Δₗ) on ln l, l = 1, 2, 8, 16",
            "Di Matteo 2007",
            k.hurst,
            (240,),
        ),
        Feature("correlation_60", "-1..1", 60, _PAIR, "corr(r, benchmark r)", "pandas", k.rolling_pair, (60,), 0),
        Feature("beta_60", "1", 60, _PAIR, "cov(r, b) / var(b)", "pandas", k.rolling_pair, (60,), 1),
    ]


def _volatility() -> list[Feature]:
    k = kernels
    ewma_bars, atr_bars = recursion_bars(0.06, 1), recursion_bars(1 / 14, 15)
    garman_klass = "√mean(½ ln²(h / l) − (2 ln 2 − 1) ln²(c / o))"
    yang_zhang = "√(var ln(o / c₋₁) + k var ln(c / o) + (1 − k) Rogers–Satchell)"
    return [
        Feature(
            "ewma_volatility", "log", ewma_bars, _RETURN, "√EMA(r²), λ 0.94", "RiskMetrics", k.ewma_volatility, (0.94,)
        ),
        Feature("realised_volatility_60", "log", 60, _RETURN, "√Σ r²", "–", k.realised_volatility, (60,)),
        Feature("parkinson_20", "log", 19, _RANGE, "√mean(ln²(h / l) / 4 ln 2)", "Parkinson 1980", k.parkinson, (20,)),
        Feature("garman_klass_20", "log", 19, _BODY, garman_klass, "Garman–Klass 1980", k.garman_klass, (20,)),
        Feature("yang_zhang_20", "log", 20, _LOGS, yang_zhang, "Yang–Zhang 2000", k.yang_zhang, (20,)),
        Feature("atr_14", "price", atr_bars, _HLC, "Wilder mean of true range", "Wilder 1978", k.atr, (14,)),
        Feature("range", "fraction", 0, _HLC, "(high − low) / close", "–", expression=expressions.bar_range()),
    ]


def _oscillators() -> list[Feature]:
    k, macd = kernels, (12, 26, 9)
    rsi_bars, line_bars = recursion_bars(1 / 14, 15), recursion_bars(2 / 27, 26)
    return [
        Feature("rsi_14", "0..100", rsi_bars, _CLOSE, "100 · up / (up + down)", "Wilder 1978", k.rsi, (14,)),
        Feature("macd", "price", line_bars, _CLOSE, "EMA₁₂ − EMA₂₆", "Appel 1979", k.macd, macd, 0),
        Feature("macd_signal", "price", _MACD_BARS, _CLOSE, "EMA₉ of macd", "Appel 1979", k.macd, macd, 1),
        Feature("macd_histogram", "price", _MACD_BARS, _CLOSE, "macd − macd_signal", "Appel 1979", k.macd, macd, 2),
        Feature("bollinger_lower", "price", 19, _CLOSE, "mean − 2 σ", "Bollinger 2001", k.bollinger, (20, 2.0), 0),
        Feature("bollinger_upper", "price", 19, _CLOSE, "mean + 2 σ", "Bollinger 2001", k.bollinger, (20, 2.0), 1),
        Feature(
            "bollinger_position", "1", 19, _CLOSE, "(close − lower) / (upper − lower)", "%b", k.bollinger, (20, 2.0), 2
        ),
        Feature("stochastic_k", "0..100", 15, _HLC, "3-bar mean of raw %K₁₄", "Lane 1984", k.stochastic, (14, 3), 0),
        Feature("stochastic_d", "0..100", 17, _HLC, "3-bar mean of %K", "Lane 1984", k.stochastic, (14, 3), 1),
        Feature(
            "close_location", "-1..1", 0, _HLC, "(2c − h − l) / (h − l)", "–", expression=expressions.close_location()
        ),
    ]


def _volume() -> list[Feature]:
    k, impact, pressure = kernels, ("close_log_return", "close", "volume"), ("open", "close", "volume")
    return [
        Feature("vwap_60", "price", 59, _HLCV, "Σ typical · volume / Σ volume", "–", k.vwap, (60,), 0),
        Feature("vwap_distance_60", "fraction", 59, _HLCV, "close / vwap_60 − 1", "–", k.vwap, (60,), 1),
        Feature(
            "obv_60", "volume", 60, ("close", "volume"), "Σ sign(Δclose) · volume", "Granville", k.obv_change, (60,)
        ),
        Feature(
            "amihud_60",
            "1 / turnover",
            60,
            impact,
            "mean(|r| / (close · volume)), traded bars",
            "Amihud 2002",
            k.amihud,
            (60,),
        ),
        Feature("volume_pressure_60", "-1..1", 59, pressure, "Σ sign(c − o) · v / Σ v", "–", k.volume_pressure, (60,)),
        Feature(
            "volume_seasonality_5d",
            "1",
            0,
            ("timestamp_us", "volume"),
            "volume / its mean at this time, 5 days",
            "–",
            k.seasonal_ratio,
            (5,),
            days=5,
        ),
    ]


def _time_and_books() -> list[Feature]:
    e, time = expressions, ("timestamp_us",)
    return [
        Feature("time_of_day_sin", "-1..1", 0, time, "sin(2π · time of day)", "–", kernels.time_of_day, (), 0),
        Feature("time_of_day_cos", "-1..1", 0, time, "cos(2π · time of day)", "–", kernels.time_of_day, (), 1),
        Feature("microprice", "price", 0, _BOOK, "(ask·b + bid·a) / (b + a)", "–", expression=e.microprice()),
        Feature("imbalance", "-1..1", 0, _BOOK, "(b − a) / (b + a)", "–", expression=e.imbalance()),
        Feature("pressure_ratio", "1", 0, _BOOK, "b / a", "–", expression=e.pressure_ratio()),
    ]


FEATURES: dict[str, Feature] = {
    item.name: item
    for group in (_level, _returns, _volatility, _oscillators, _volume, _time_and_books)
    for item in group()
}

#: What a run computes where nobody names features: all that bars alone give.
BAR_FEATURES: tuple[str, ...] = tuple(
    name for name, item in FEATURES.items() if not set(item.inputs) & {"bid_price", "benchmark_log_return"}
)


def feature(name: str) -> Feature:
    """Return the feature of that name.

    Raises:
        InputError: No feature has the name; the message lists those that are there.
    """
    found = FEATURES.get(name)
    if found is None:
        raise InputError(f"feature: expected one of {', '.join(FEATURES)}; found {name!r}")
    return found
