"""Computations that see the future, each in a way that real research code does it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl

from tasks.features.intervals import resample
from tasks.features.prover import Subject

Column = Callable[[pl.DataFrame], pl.Expr | pl.Series | np.ndarray]

CLOSE = pl.col("close")
RETURN = CLOSE / CLOSE.shift(1) - 1
DAY = pl.col("timestamp").dt.date()


def subject(name: str, column: Column, *, at_open: bool = False) -> Subject:
    """Return a one-column computation as the prover takes it; `at_open` claims it known when its bar opens."""

    def compute(bars: pl.DataFrame) -> pl.DataFrame:
        value = column(bars)
        value = pl.Series(value, nan_to_null=False) if isinstance(value, np.ndarray) else value
        return bars.select("timestamp").with_columns(bars.select(value.alias(name)).to_series())

    known_at_open = frozenset({name} if at_open else ())
    return Subject(name, compute, 0, interval="1m", known_at_open=known_at_open, converges=False)


def close_of(bars: pl.DataFrame) -> np.ndarray:
    """Return the closes, holes filled from the past, as arrays that NumPy can transform."""
    return bars["close"].forward_fill().fill_null(1.0).to_numpy()


def centred(bars: pl.DataFrame) -> np.ndarray:
    """Return a centred moving average."""
    return pd.Series(close_of(bars)).rolling(9, center=True).mean().to_numpy()


def filtered_both_ways(bars: pl.DataFrame) -> np.ndarray:
    """Return an EWMA run forwards and then backwards, the zero-phase filter."""
    forward = pd.Series(close_of(bars)).ewm(span=10, adjust=False).mean()
    return forward[::-1].ewm(span=10, adjust=False).mean()[::-1].to_numpy()


def low_pass(bars: pl.DataFrame) -> np.ndarray:
    """Return the slow tenth of the Fourier spectrum of the whole sample."""
    spectrum = np.fft.rfft(close_of(bars))
    spectrum[max(spectrum.size // 10, 1) :] = 0
    return np.fft.irfft(spectrum, bars.height)


def detrended(bars: pl.DataFrame) -> np.ndarray:
    """Return the residuals of a line fitted through all bars."""
    close, time = close_of(bars), np.arange(bars.height)
    return close - np.polyval(np.polyfit(time, close, 1), time) if bars.height > 2 else close


def hour_joined_by_label(bars: pl.DataFrame) -> pl.Series:
    """Return the close of the hour bar with the latest label: for all but its last minute, an unclosed one."""
    hours = bars.group_by_dynamic("timestamp", every="1h").agg(CLOSE.last().alias("hour"))
    return bars.select("timestamp").join_asof(hours, on="timestamp")["hour"]


def nearest_hour(bars: pl.DataFrame) -> pl.Series:
    """Return the nearest closed hour bar's close, which is often the next one's."""
    hours = resample(bars, "1m", "1h").select("timestamp", CLOSE.alias("hour"))
    return bars.select("timestamp").join_asof(hours, on="timestamp", strategy="nearest")["hour"]


def hour_of_day_mean(bars: pl.DataFrame) -> pl.Expr:
    """Return the mean return of this hour of day over the whole sample (target encoding)."""
    return RETURN.mean().over(pl.col("timestamp").dt.hour())


def only_at_midnight(bars: pl.DataFrame) -> pl.Expr:
    """Return the return, but tomorrow's first open where the day ends: one leaking bar a day."""
    last = DAY.shift(-1) != DAY
    return pl.when(last).then(pl.col("open").shift(-1) / CLOSE - 1).otherwise(RETURN)


def only_before_jumps(bars: pl.DataFrame) -> pl.Expr:
    """Return 0, and 1 on the bar before a move of more than 20 %."""
    return ((CLOSE.shift(-1) / CLOSE - 1).abs() > 0.2).fill_null(False).cast(pl.Float64)


def backfilled_warm_up(bars: pl.DataFrame) -> pl.Expr:
    """Return a moving average whose first values are filled from the first known one."""
    return CLOSE.rolling_mean(20).backward_fill()


def same_bar_fill(bars: pl.DataFrame) -> pl.Expr:
    """Return fills at the open of the very bar whose close gave the signal."""
    return pl.when(pl.col("open") < CLOSE).then(pl.col("open"))


def position_at_label(bars: pl.DataFrame) -> pl.Expr:
    """Return the position held from a bar's open on, decided by the average that includes its close."""
    return (CLOSE.rolling_mean(20) < CLOSE).cast(pl.Float64)


def stop_before_entry(bars: pl.DataFrame) -> pl.Expr:
    """Return entries at the open that spare the bars whose low would have stopped them out."""
    return (RETURN.shift(1) > 0) & (pl.col("low") > 0.999 * pl.col("open"))


LEAKS: list[Subject] = [
    subject("next_return", lambda bars: CLOSE.shift(-1) / CLOSE - 1),
    subject("return_five_ahead", lambda bars: CLOSE.shift(-5) / CLOSE - 1),
    subject("centred_mean", centred),
    subject("central_difference", lambda bars: np.gradient(close_of(bars)) if bars.height > 1 else close_of(bars) * 0),
    subject("convolution_same", lambda bars: np.convolve(close_of(bars), np.ones(5) / 5, "same")[: bars.height]),
    subject("full_sample_zscore", lambda bars: (CLOSE - CLOSE.mean()) / CLOSE.std()),
    subject("full_sample_min_max", lambda bars: (CLOSE - CLOSE.min()) / (CLOSE.max() - CLOSE.min())),
    subject("full_sample_rank", lambda bars: CLOSE.rank() / pl.len()),
    subject("winsorised", lambda bars: CLOSE.clip(CLOSE.quantile(0.05), CLOSE.quantile(0.95))),
    subject("scaled_by_last", lambda bars: CLOSE / CLOSE.last()),
    subject("share_of_sample", lambda bars: pl.int_range(pl.len()) / pl.len()),
    subject("detrended", detrended),
    subject("low_pass", low_pass),
    subject("filtered_both_ways", filtered_both_ways),
    subject("backfilled_holes", lambda bars: CLOSE.backward_fill()),
    subject("backfilled_warm_up", backfilled_warm_up),
    subject("interpolated_holes", lambda bars: CLOSE.interpolate()),
    subject("future_drawdown", lambda bars: CLOSE.reverse().cum_min().reverse() / CLOSE - 1),
    subject("hour_joined_by_label", hour_joined_by_label),
    subject("nearest_hour", nearest_hour),
    subject("high_of_the_whole_day", lambda bars: pl.col("high").max().over(DAY)),
    subject("vwap_of_the_whole_day", lambda bars: (CLOSE * pl.col("volume")).sum().over(DAY)),
    subject("hour_of_day_mean", hour_of_day_mean),
    subject("only_at_midnight", only_at_midnight),
    subject("only_before_jumps", only_before_jumps),
    subject("same_bar_fill", same_bar_fill, at_open=True),
    subject("position_at_label", position_at_label, at_open=True),
    subject("stop_before_entry", stop_before_entry, at_open=True),
]
