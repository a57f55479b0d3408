"""What the market looks like at its clock: last trades, book, ticker and the bar still being formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from tasks.simulator.instruments import Instrument
from tasks.simulator.intervals import DAY_MS, floor_ms
from tasks.simulator.market import Market
from tasks.simulator.tape import BarTape, Tape, decimal_text

STREAM_LEVELS = 10
_EFFECTS = ("long_open", "short_open", "long_close", "short_close", "both_open", "both_close")


class Quotes:
    """Views of every instrument at the market's clock."""

    def __init__(self, market: Market, seed: int = 0) -> None:
        self.market = market
        self._windows: dict[Instrument, tuple[tuple[int, int], dict[str, float]]] = {}  # last whole bars summed up
        self._tapes = {item: Tape(item, market.series(item), seed) for item in market.instruments}

    def tape(self, item: Instrument) -> Tape:
        """Return the trades and books of an instrument."""
        return self._tapes[item]

    def trades(self, item: Instrument, limit: int) -> list[dict[str, Any]]:
        """Return the last `limit` trades, oldest first."""
        now, tape = self.market.clock(), self.tape(item)
        index, found = tape.index_at(now), []
        while index >= 0 and len(found) < limit:
            bar = tape.bar(index)
            seen = int(np.searchsorted(bar.times, now, side="right"))
            found = [trade_json(item, bar, number) for number in range(seen)] + found
            index -= 1
        return found[-limit:]

    def depth(self, item: Instrument, limit: int) -> dict[str, Any]:
        """Return the book that stands now: ``bids``, ``asks`` as strings, best first, and its ``timestamp``."""
        return self.depth_at(item, self.market.clock(), limit)

    def depth_at(self, item: Instrument, now: int, limit: int) -> dict[str, Any]:
        """Return the book as it stood at `now`."""
        tape = self.tape(item)
        index = tape.index_at(now)
        if index < 0:
            return {"timestamp": now, "bids": [], "asks": []}
        bar = tape.bar(index)
        row = int(np.searchsorted(bar.book_times, now, side="right")) - 1
        return book_json(item, bar, row, limit)

    def book_time(self, item: Instrument, now: int) -> int:
        """Return since when the book that stands at `now` has stood; `now` where there is none yet."""
        tape = self.tape(item)
        index = tape.index_at(now)
        if index < 0:
            return now
        times = tape.bar(index).book_times
        return int(times[np.searchsorted(times, now, side="right") - 1])

    def ticker(self, item: Instrument) -> dict[str, Any]:
        """Return the ticker: last price, best quotes and the last 24 hours."""
        now = self.market.clock()
        return self.ticker_at(item, now)

    def ticker_at(self, item: Instrument, now: int) -> dict[str, Any]:
        """Return the ticker as it stood at `now`; the last 24 hours end with the base bar that holds it."""
        tape = self.tape(item)
        opened = int(tape.bars.times[max(tape.index_at(now), 0)])
        day = self._window(item, opened - DAY_MS, now)
        book = self.depth_at(item, now, 1)
        text = _writer(item)
        change = day["close"] - day["open"]
        percent = 100 * change / day["open"] if day["open"] else 0.0
        return {
            "symbol": item.symbol,
            "name": item.symbol,
            "type": item.type,
            "last_price": text(day["close"]),
            "bid_price": book["bids"][0][0] if book["bids"] else text(day["close"]),
            "ask_price": book["asks"][0][0] if book["asks"] else text(day["close"]),
            "volume_24h": decimal_text(round(day["volume"] * 10**item.lot_decimals), item.lot_decimals),
            "high_24h": text(day["high"]),
            "low_24h": text(day["low"]),
            "price_change_24h": text(change),
            "price_change_percent_24h": f"{percent:.2f}",
            "timestamp": now,
        }

    def forming(self, item: Instrument, interval: str) -> dict[str, Any]:
        """Return the bar still being formed, as the trades so far make it; flat where none has happened yet."""
        now = self.market.clock()
        opened = int(floor_ms(np.array([now], np.int64), interval)[0])
        bar = self._window(item, opened, now)
        text = _writer(item)
        prices = {name: text(bar[name]) for name in ("open", "high", "low", "close")}
        volume = decimal_text(round(bar["volume"] * 10**9), 9)
        row: dict[str, Any] = {"time": opened, **prices, "volume": volume}
        return row if item.type == "futures" else {**row, "quote_volume": f"{bar['volume'] * bar['close']:.2f}"}

    def _window(self, item: Instrument, start_ms: int, now_ms: int) -> dict[str, float]:
        """Return open, high, low, close and volume of what happened in ``[start_ms, now_ms]``."""
        tape = self.tape(item)
        whole = tape.bars.closed(now_ms)
        first = min(tape.bars.position(start_ms), whole)
        parts = [self._whole_bars(item, first, whole)] if whole > first else []
        if tape.index_at(now_ms) >= whole:
            bar = tape.bar(whole)
            seen = int(np.searchsorted(bar.times, now_ms, side="right"))
            if seen:
                parts.append(_summary(bar, seen, item.price_decimals))
        if not parts:
            last = float(tape.bars.frame["close"][whole - 1]) if whole else 0.0
            return {"open": last, "high": last, "low": last, "close": last, "volume": 0.0}
        return {
            "open": parts[0]["open"],
            "high": max(part["high"] for part in parts),
            "low": min(part["low"] for part in parts),
            "close": parts[-1]["close"],
            "volume": sum(part["volume"] for part in parts),
        }

    def _whole_bars(self, item: Instrument, first: int, stop: int) -> dict[str, float]:
        known = self._windows.get(item)
        if known is None or known[0] != (first, stop):
            frame = self.tape(item).bars.frame.slice(first, stop - first)
            row = frame.select(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.sum("volume"),
            ).row(0, named=True)
            known = self._windows[item] = ((first, stop), row)
        return known[1]


def _summary(bar: BarTape, seen: int, decimals: int) -> dict[str, float]:
    """Return open, high, low, close and volume of the first `seen` trades of a bar."""
    prices = bar.prices[:seen] / 10**decimals
    return {
        "open": float(prices[0]),
        "high": float(prices.max()),
        "low": float(prices.min()),
        "close": float(prices[-1]),
        "volume": float(bar.quantities[:seen].sum()) / 10**bar.lot_decimals,
    }


def trade_json(item: Instrument, bar: BarTape, number: int) -> dict[str, Any]:
    """Write one trade as the vendor does; futures carry two fields more."""
    time = int(bar.times[number])
    trade: dict[str, Any] = {
        "id": f"{time}_{number}",
        "price": decimal_text(int(bar.prices[number]), item.price_decimals),
        "quantity": decimal_text(int(bar.quantities[number]), bar.lot_decimals),
        "side": "buy" if bar.buys[number] else "sell",
        "timestamp": time,
    }
    if item.type == "futures":
        trade |= {"open_interest_change": 0, "position_effect": _EFFECTS[number % len(_EFFECTS)]}
    return trade


def book_json(item: Instrument, bar: BarTape, row: int, limit: int) -> dict[str, Any]:
    """Write one book as the vendor does, at most `limit` levels a side."""
    prices, lots = item.price_decimals, bar.lot_decimals

    def side(price_row: np.ndarray, size_row: np.ndarray) -> list[list[str]]:
        levels = zip(price_row[:limit].tolist(), size_row[:limit].tolist(), strict=True)
        return [[decimal_text(price, prices), decimal_text(size, lots)] for price, size in levels if price > 0]

    return {
        "timestamp": int(bar.book_times[row]),
        "bids": side(bar.bid_prices[row], bar.bid_sizes[row]),
        "asks": side(bar.ask_prices[row], bar.ask_sizes[row]),
    }


def book_texts(item: Instrument, bar: BarTape, name: str, skew_ms: int) -> list[str]:
    """Write every book of a bar as the stream's message: `book_json` for all rows at once, 20 times faster."""
    columns, parts = {"time": bar.book_times + skew_ms}, [pl.lit(f'{{"cmd":"depth","data":{{"symbol":"{name}"')]
    for side, prices, sizes in (
        ("bids", bar.bid_prices, bar.bid_sizes),
        ("asks", bar.ask_prices, bar.ask_sizes),
    ):
        for level in range(STREAM_LEVELS):
            columns[f"{side}_price_{level}"] = prices[:, level] / 10**item.price_decimals
            columns[f"{side}_size_{level}"] = sizes[:, level] / 10**bar.lot_decimals
            parts += [pl.lit(f',"{side}":[["' if level == 0 else '"],["'), _text(f"{side}_price_{level}")]
            parts += [pl.lit('","'), _text(f"{side}_size_{level}")]
        parts.append(pl.lit('"]]'))
    parts += [pl.lit(',"timestamp":'), pl.col("time").cast(pl.String), pl.lit("}}")]
    return pl.DataFrame(columns).select(text=pl.concat_str(parts))["text"].to_list()


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_suffix(".0")


def _writer(item: Instrument) -> Callable[[float], str]:
    return lambda price: decimal_text(round(price * 10**item.price_decimals), item.price_decimals)
