"""Bars that look like bars: seeded, vectorised, the same bytes in every process.

What they share with real ones: volatility comes in clusters (a slow and a fast autoregressive log-variance), returns
have fat tails, activity follows the hour (a U over a trading session, a wave over a 24-hour day, quiet weekends),
volume rises with volatility, prices sit on ticks, and a session opens with a gap.
"""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl

from tasks.simulator import sessions
from tasks.simulator.instruments import Instrument
from tasks.simulator.intervals import DAY_MS, STEP_MS, floor_ms

#: Yearly volatility and a typical price by type; the seed spreads both.
_CHARACTER = {
    "crypto": (0.60, 20_000.0),
    "stock": (0.30, 120.0),
    "forex": (0.08, 1.1),
    "indices": (0.16, 4_500.0),
    "futures": (0.25, 3_600.0),
}


#: The month that begins with the typical price, counted from January 1970: January 2025.
_TYPICAL_MONTH = 660

#: The least volume of a bar in lots: enough for the trades that make its open, high, low and close.
MIN_LOTS = 8


def generate(instrument: Instrument, *, seed: int, interval: str, start_ms: int, end_ms: int) -> pl.DataFrame:
    """Return bars of `instrument` with opens in ``[start_ms, end_ms)``.

    The columns are ``time`` (milliseconds), ``open, high, low, close, volume``, then ``open_interest`` for futures
    and ``quote_volume`` for everything else. The numbers depend on seed, symbol, interval and time alone: neither
    another symbol nor another start or end changes a bar. For that, each calendar month is made by itself and led from
    its own first price to that of the next, out of one random walk of months.
    """
    salt = [seed, zlib.crc32(f"{instrument.symbol}:{instrument.type}".encode())]
    yearly, path = _character(instrument, salt, _month(end_ms))
    frames = []
    for month in range(_month(start_ms), max(_month(end_ms - 1), _month(start_ms)) + 1):
        times = _opens(instrument, interval, _opened(month), _opened(month + 1))
        rng = np.random.default_rng([*salt, month])
        frames.append(_bars(instrument, interval, times, rng, yearly, path[month], path[month + 1]))
    return pl.concat(frames).filter(pl.col("time").is_between(start_ms, end_ms, closed="left"))


def _month(moment_ms: int) -> int:
    """Return the month that holds an instant, counted from January 1970."""
    return int(np.datetime64(moment_ms, "ms").astype("datetime64[M]").astype(int))


def _opened(month: int) -> int:
    """Return the first instant of a month in milliseconds."""
    return int(np.datetime64(month, "M").astype("datetime64[ms]").astype(int))


def _bars(
    instrument: Instrument,
    interval: str,
    times: np.ndarray,
    rng: np.random.Generator,
    yearly: float,
    begins: float,
    ends: float,
) -> pl.DataFrame:
    """Return a month's bars, whose logarithm of the price goes from `begins` to `ends`."""
    bar_sigma, minute_sigma = (_bar_sigma(instrument, length, yearly) for length in (interval, "1m"))
    first_of_session = np.diff(floor_ms(times, "1d"), prepend=-1) != 0
    season = _season(times, instrument.market, interval)
    # A stream for each kind of number, so that what is drawn of one does not shift the others.
    slow, fast, tails, opening, up, down, turnover, interest = rng.spawn(8)
    heat = _volatility(slow, fast, len(times), interval)
    sigma = bar_sigma * np.sqrt(season) * np.exp(heat / 2)
    moves = sigma * tails.standard_t(4, len(times)) / np.sqrt(2.0)  # variance of t(4) is 2
    opens = first_of_session & (instrument.market != "GLOBAL")
    gaps = np.where(opens, 8.0 * minute_sigma, 0.1 * bar_sigma)  # a night is as long whatever the bars are
    gaps = gaps * opening.standard_normal(len(times))
    path = begins + _led(np.cumsum(moves + gaps), ends - begins)
    columns = _prices(up, down, path, moves, sigma, instrument.price_decimals)
    volume = _volumes(turnover, season, heat, moves / sigma, instrument, interval, np.exp(begins))
    return _frame(instrument, interest, times, columns, volume)


def _led(walk: np.ndarray, to: float) -> np.ndarray:
    """Return a walk that ends at `to`, every step changed alike: in a month of minutes by far less than its noise."""
    return walk + np.linspace(0.0, to - walk[-1], len(walk) + 1)[1:] if len(walk) else walk


def _opens(instrument: Instrument, interval: str, start_ms: int, end_ms: int) -> np.ndarray:
    """Return the opens in ``[start_ms, end_ms)``; a week belongs to the month it opens in."""
    if interval in ("1d", "1w", "1M"):
        moments = sessions.days(instrument.market, start_ms, end_ms)
    else:
        moments = sessions.minutes(instrument.market, start_ms, end_ms)
    opens = floor_ms(moments, interval)
    opens = opens[opens >= start_ms]
    return opens[np.diff(opens, prepend=-1) != 0]  # ascending: np.unique would hash and sort a million for nothing


def _character(instrument: Instrument, salt: list[int], last: int) -> tuple[float, np.ndarray]:
    """Return the yearly volatility, and the logarithm of the price at the begin of every month up to after `last`."""
    yearly, level = _CHARACTER[instrument.type]
    rng = np.random.default_rng(salt)
    yearly, level = yearly * rng.uniform(0.8, 1.25), level * np.exp(rng.normal(0.0, 0.4))
    walk = np.cumsum(rng.standard_normal(max(last, _TYPICAL_MONTH) + 2)) * yearly / np.sqrt(12)
    return yearly, np.log(level) + walk - walk[_TYPICAL_MONTH]


def _bar_sigma(instrument: Instrument, interval: str, yearly: float) -> float:
    open_share = 1.0 if instrument.market == "GLOBAL" else 252 * 6.5 / (365 * 24)
    step = STEP_MS.get(interval, 30 * DAY_MS)
    bars_a_year = 365 * DAY_MS / step * (open_share if step < DAY_MS else min(1.0, open_share * 24 / 6.5))
    return yearly / np.sqrt(bars_a_year)


def _season(times: np.ndarray, market: str, interval: str) -> np.ndarray:
    """Return the activity expected at each bar, 1 on average: a U over a session, a wave over a full day."""
    if STEP_MS.get(interval, DAY_MS) >= DAY_MS:
        return np.ones(len(times))
    if market == "GLOBAL":
        hour = (times % DAY_MS) / (DAY_MS / 24)
        weekend = np.isin((times // DAY_MS + 3) % 7, (5, 6))
        shape = (1.0 + 0.45 * np.sin((hour - 8.5) / 24 * 2 * np.pi)) * np.where(weekend, 0.6, 1.0)
        return shape / ((5 + 2 * 0.6) / 7)
    _, starts, counts = np.unique(times // DAY_MS, return_index=True, return_counts=True)
    position = (np.arange(len(times)) - np.repeat(starts, counts)) / np.maximum(np.repeat(counts, counts) - 1, 1)
    shape = 0.55 + 3.0 * (position - 0.55) ** 2 + 1.2 * np.exp(-position * 30)
    return shape / np.repeat(np.add.reduceat(shape, starts) / counts, counts)


def _volatility(slow: np.random.Generator, fast: np.random.Generator, count: int, interval: str) -> np.ndarray:
    """Return a log-variance that clusters: a slow regime of days plus a fast one of minutes."""
    memory = max(STEP_MS.get(interval, 30 * DAY_MS) / STEP_MS["1m"], 1.0)
    regime = _autoregression(slow.standard_normal(count), 0.9995 ** min(memory, 60.0), deviation=0.7)
    return regime + _autoregression(fast.standard_normal(count), 0.97, deviation=0.5)


def _autoregression(noise: np.ndarray, phi: float, *, deviation: float) -> np.ndarray:
    """Return x[t] = phi x[t-1] + e[t] with the given stationary deviation, started in its stationary state."""
    scaled = noise * deviation * np.sqrt(1 - phi**2) / (1 - phi)
    if len(scaled):
        scaled[0] = noise[0] * deviation
    return pl.Series(scaled).ewm_mean(alpha=1 - phi, adjust=False).to_numpy()


def _prices(
    up: np.random.Generator,
    down: np.random.Generator,
    path: np.ndarray,
    moves: np.ndarray,
    sigma: np.ndarray,
    decimals: int,
) -> dict[str, np.ndarray]:
    """Return open, high, low and close on ticks; each open is the close before it plus a gap."""
    scale = 10**decimals
    close = np.maximum(np.rint(np.exp(path) * scale), 5)
    opened = np.maximum(np.rint(np.exp(path - moves) * scale), 5)
    reach = sigma * close
    high = np.maximum(opened, close) + np.rint(reach * np.abs(up.normal(0.0, 0.6, len(moves))))
    low = np.minimum(opened, close) - np.rint(reach * np.abs(down.normal(0.0, 0.6, len(moves))))
    ticks = {"open": opened, "high": high, "low": np.maximum(low, 1), "close": close}
    return {name: values / scale for name, values in ticks.items()}


def _volumes(
    rng: np.random.Generator,
    season: np.ndarray,
    heat: np.ndarray,
    surprise: np.ndarray,
    instrument: Instrument,
    interval: str,
    level: float,
) -> np.ndarray:
    minutes = STEP_MS.get(interval, 30 * DAY_MS) / STEP_MS["1m"]
    typical = 400_000.0 / level * minutes  # so much money a minute, in units of the instrument
    shape = season * np.exp(0.5 * heat) * (0.6 + 0.4 * np.abs(surprise)) * rng.lognormal(0.0, 0.5, len(season))
    scale = 10**instrument.lot_decimals
    return np.maximum(np.rint(typical * shape * scale), MIN_LOTS) / scale


def _frame(
    instrument: Instrument,
    rng: np.random.Generator,
    times: np.ndarray,
    prices: dict[str, np.ndarray],
    volume: np.ndarray,
) -> pl.DataFrame:
    frame = pl.DataFrame({"time": times, **prices, "volume": volume})
    if instrument.type == "futures":
        interest = 50_000 + np.rint(_led(np.cumsum(rng.integers(-40, 41, len(times))), 0.0))
        return frame.with_columns(open_interest=pl.Series(np.maximum(interest, 0)))
    mean_price = (prices["open"] + prices["high"] + prices["low"] + prices["close"]) / 4
    return frame.with_columns(quote_volume=pl.Series(np.round(mean_price * volume, 2)))
