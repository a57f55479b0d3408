"""One instrument's bars at every interval, and the JSON of their pages, rendered in blocks and cut by slices."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl

from tasks.errors import InputError
from tasks.simulator.intervals import aggregate, can_build, close_ms

PRICES = ("open", "high", "low", "close")
_BLOCK = 4096  # bars rendered at a time: about 10 ms of work and 0.5 MB of text
_KEPT_BLOCKS = 16  # of one interval: more than the pages that a backfill asks for side by side


class Bars:
    """The bars of one instrument and interval, ascending.

    Attributes:
        frame: Columns ``time`` (open, milliseconds), ``open, high, low, close, volume`` and, where the instrument
            has them, ``quote_volume`` or ``open_interest``; all but `time` float64.
        times: The opens as an array.
        closes: The instants from which each bar is complete.
    """

    def __init__(self, frame: pl.DataFrame, interval: str) -> None:
        self.frame = frame
        self.interval = interval
        self.times = frame["time"].to_numpy()
        self.closes = close_ms(self.times, interval)
        self._block = lru_cache(maxsize=_KEPT_BLOCKS)(self._render_block)

    def __len__(self) -> int:
        return len(self.times)

    def position(self, moment_ms: int) -> int:
        """Return the index of the first bar that opens at or after `moment_ms`."""
        return int(np.searchsorted(self.times, moment_ms, side="left"))

    def closed(self, now_ms: int) -> int:
        """Return how many bars are complete at `now_ms`."""
        return int(np.searchsorted(self.closes, now_ms, side="right"))

    def text(self, start: int, stop: int) -> bytes:
        """Return the JSON objects of the bars ``[start, stop)``, separated by commas."""
        pieces = []
        while start < stop:
            number = start // _BLOCK
            offset = number * _BLOCK
            end = min(stop, offset + _BLOCK)
            blob, edges = self._block(number)
            pieces.append(blob[edges[start - offset] : edges[end - offset] - 1])
            start = end
        return b",".join(pieces)

    def _render_block(self, number: int) -> tuple[bytes, np.ndarray]:
        """Return the text of a block of bars and where in it each bar begins."""
        rows = render(self.frame.slice(number * _BLOCK, _BLOCK))
        edges = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(rows.str.len_bytes().to_numpy() + 1, out=edges[1:])
        return "".join(f"{row}," for row in rows).encode(), edges


class Series:
    """One instrument's bars: the base interval as given, longer ones built from it when first asked for.

    Args:
        frame: The base bars.
        base: Their interval.
        until_ms: Up to when everything that traded is in them, where that is later than the last bar's close: a market
            that is shut for the weekend has had its whole Friday.

    Attributes:
        end_ms: Up to when everything that traded is known; no longer bar that ends later is complete.
    """

    def __init__(self, frame: pl.DataFrame, base: str, until_ms: int = 0) -> None:
        bars = Bars(frame, base)
        self.base = base
        self.end_ms = max([until_ms, *bars.closes[-1:].tolist()])
        self._by_interval = {base: bars}

    def bars(self, interval: str) -> Bars:
        """Return the bars of `interval`.

        Raises:
            InputError: The interval cannot be built from the base one.
        """
        found = self._by_interval.get(interval)
        if found is None:
            if not can_build(self.base, interval):
                raise InputError(f"interval: expected {self.base} or a multiple of it, found {interval!r}")
            found = Bars(aggregate(self._by_interval[self.base].frame, interval), interval)
            self._by_interval[interval] = found
        return found


def render(frame: pl.DataFrame) -> pl.Series:
    """Return each bar as the vendor's JSON object; every figure but the time is a string, shortest exact form."""
    parts: list[pl.Expr] = [pl.lit('{"time":'), pl.col("time").cast(pl.String)]
    for name in frame.columns[1:]:
        text = pl.col(name).cast(pl.String).str.strip_suffix(".0")
        parts += [pl.lit(f',"{name}":"'), text, pl.lit('"')]
    return frame.select(row=pl.concat_str([*parts, pl.lit("}")]))["row"]
