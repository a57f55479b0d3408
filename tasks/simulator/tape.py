"""What happened inside a bar: trades that make exactly that bar, and order books that sit around them.

Everything is a function of the seed, the symbol and the bar, so the REST pages, the stream and a second look agree.
Prices are counted in ticks and quantities in lots (integers), and become the vendor's strings only when written.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from tasks.simulator.instruments import Instrument
from tasks.simulator.intervals import MINUTE_MS
from tasks.simulator.series import PRICES, Series

DEPTH_LEVELS = 50
_KEPT_BARS = 64  # bars of one symbol whose trades and books stay in memory
_SLOT_MS = 500  # how often the book of a one-minute bar moves


def decimal_text(units: int, decimals: int) -> str:
    """Write an integer count of ``10**-decimals`` as a plain decimal without trailing zeros."""
    if decimals == 0:
        return str(units)
    whole, part = divmod(abs(units), 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0")
    return f"{'-' if units < 0 else ''}{whole}{f'.{digits}' if digits else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class BarTape:
    """The inside of one base bar.

    Attributes:
        opened: The bar's open in milliseconds.
        times: When each trade happened, ascending.
        prices: In ticks.
        quantities: In lots of ``10**-lot_decimals``.
        buys: Whether the buyer was the aggressor.
        lot_decimals: Digits of the quantities; more than the instrument's where a bar holds too few lots.
        book_times: When each book began to stand, ascending; the first is the bar's open.
        bid_prices: A row for each book, best first, in ticks; likewise `bid_sizes`, `ask_prices`, `ask_sizes`.
    """

    opened: int
    times: np.ndarray
    prices: np.ndarray
    quantities: np.ndarray
    buys: np.ndarray
    lot_decimals: int
    book_times: np.ndarray
    bid_prices: np.ndarray
    bid_sizes: np.ndarray
    ask_prices: np.ndarray
    ask_sizes: np.ndarray


class Tape:
    """Trades and books of one instrument, made bar by bar when first asked for."""

    def __init__(self, item: Instrument, series: Series, seed: int) -> None:
        self.item = item
        self.bars = series.bars(series.base)
        self._seed = [seed, zlib.crc32(f"{item.symbol}:{item.type}".encode())]
        self._kept: OrderedDict[int, BarTape] = OrderedDict()

    def index_at(self, moment_ms: int) -> int:
        """Return the index of the last base bar that opens at or before `moment_ms`; -1 before the first."""
        return int(np.searchsorted(self.bars.times, moment_ms, side="right")) - 1

    def bar(self, index: int) -> BarTape:
        """Return the inside of the base bar at `index`."""
        found = self._kept.get(index)
        if found is None:
            found = self._kept[index] = self._make(index)
            if len(self._kept) > _KEPT_BARS:
                self._kept.popitem(last=False)
        return found

    def _make(self, index: int) -> BarTape:
        row = self.bars.frame.row(index, named=True)
        opened, step = row["time"], int(self.bars.closes[index]) - row["time"]
        rng = np.random.default_rng([*self._seed, row["time"]])
        scale = 10**self.item.price_decimals
        ohlc = tuple(round(row[name] * scale) for name in PRICES)
        lots, lot_decimals = _lots(row["volume"], self.item.lot_decimals)
        count = int(rng.integers(12, 48)) if lots else 0
        count = min(count, lots)
        times = opened + np.sort(rng.integers(0, step, count))
        prices = _path(rng, count, *ohlc)
        buys = _sides(rng, prices, ohlc[0])
        quantities = _split(rng, lots, count)
        slot = max(_SLOT_MS, _SLOT_MS * (step // MINUTE_MS))
        book_times = np.arange(opened, opened + step, slot)
        books = _books(rng, book_times, times, prices, buys, ohlc, max(lots // max(count, 1), 1))
        return BarTape(opened, times, prices, quantities, buys, lot_decimals, book_times, *books)


def _lots(volume: float, decimals: int) -> tuple[int, int]:
    """Return the volume as a whole number of lots, and the digits of a lot."""
    lots = round(volume * 10**decimals)
    if volume > 0 and lots < 8:  # too coarse for the trades that make open, high, low and close
        decimals += 3
        lots = max(round(volume * 10**decimals), 8)
    return lots, decimals


def _path(rng: np.random.Generator, count: int, opened: int, high: int, low: int, close: int) -> np.ndarray:
    """Return `count` prices that start at `opened`, touch `high` and `low`, and end at `close`."""
    if count == 0:
        return np.zeros(0, np.int64)
    first, second = np.sort(rng.choice(np.arange(1, count - 1), 2, replace=False))
    low_first = (close >= opened) == (rng.random() < 0.8)
    knots = (opened, low, high, close) if low_first else (opened, high, low, close)
    places = [0, int(first), int(second), count - 1]
    path = np.interp(np.arange(count), places, knots) + rng.normal(0.0, 0.08, count) * (high - low)
    prices = np.clip(np.rint(path), low, high).astype(np.int64)
    prices[places] = knots
    return prices


def _sides(rng: np.random.Generator, prices: np.ndarray, opened: int) -> np.ndarray:
    moves = np.diff(prices, prepend=opened)
    return np.where(moves == 0, rng.random(len(prices)) < 0.5, moves > 0)


def _split(rng: np.random.Generator, lots: int, count: int) -> np.ndarray:
    """Cut `lots` into `count` positive parts."""
    if count == 0:
        return np.zeros(0, np.int64)
    weights = rng.exponential(1.0, count)
    parts = 1 + np.floor(weights / weights.sum() * (lots - count)).astype(np.int64)
    parts[int(np.argmax(parts))] += lots - int(parts.sum())
    return parts


def _books(
    rng: np.random.Generator,
    book_times: np.ndarray,
    times: np.ndarray,
    prices: np.ndarray,
    buys: np.ndarray,
    ohlc: tuple[int, int, int, int],
    typical: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return bid prices, bid sizes, ask prices and ask sizes, one row a book: never crossed, best first."""
    rows, columns = len(book_times), DEPTH_LEVELS
    last = np.searchsorted(times, book_times, side="right") - 1
    known = last >= 0
    price = np.where(known, prices[last], ohlc[0]) if len(prices) else np.full(rows, ohlc[3])
    lifted = np.where(known, buys[last], True) if len(prices) else np.ones(rows, bool)
    unit = max(1, ohlc[0] // 20_000)  # half a basis point, or the tick where that is coarser
    spread = unit * rng.integers(1, 4, rows)
    gaps = unit * rng.integers(1, 3, (2, rows, columns))
    gaps[:, :, 0] = 0
    ladder = gaps.cumsum(axis=2)
    best_ask = np.where(lifted, price, price + spread)
    best_bid = np.maximum(best_ask - spread, 1)
    pressure = rng.normal(0.0, 0.45, rows)[:, None]
    sizes = rng.lognormal(0.0, 0.6, (2, rows, columns)) * (1 + 0.15 * np.arange(columns)) * typical * 2
    bid_sizes = np.maximum(np.rint(sizes[0] * np.exp(pressure)), 1).astype(np.int64)
    ask_sizes = np.maximum(np.rint(sizes[1] * np.exp(-pressure)), 1).astype(np.int64)
    bids = np.maximum(best_bid[:, None] - ladder[0], 0).astype(np.int64)
    return bids, bid_sizes, (best_bid + spread)[:, None].astype(np.int64) + ladder[1], ask_sizes
