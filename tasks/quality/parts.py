"""Read a chunk's partitions with what was expected of each, a year of one symbol in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lake.calendar import TradingCalendar
from lake.store import Lake
from tasks.quality.expected import expected_opens
from tasks.quality.plan import Chunk
from tasks.quality.profile import Sight, sight
from tasks.quality.resample import finer_bars


@dataclass(frozen=True, slots=True)
class Part:
    """One partition as it was read.

    Attributes:
        start: First instant of the partition.
        end: First instant after it.
        bars: What the lake holds of it.
        fine: The same made of a finer table's bars, None where there is no such table.
        seen: The bars beside what was expected.
    """

    start: datetime
    end: datetime
    bars: pl.DataFrame
    fine: pl.DataFrame | None
    seen: Sight


def parts(lake: Lake, chunk: Chunk, now: datetime, only: Collection[datetime] | None = None) -> Iterator[Part]:
    """Yield the partitions of a chunk, or those of them that start at `only`."""
    bounds = [each for each in chunk.bounds if only is None or each[0] in only]
    first, last = bounds[0][0], bounds[-1][1]
    bars = lake.read_bars(chunk.symbol, chunk.interval.name, first, last)
    calendar = TradingCalendar.parse(chunk.market.calendar)
    fine = finer_bars(lake, chunk.symbol, chunk.interval, first, last, calendar)
    for start, end in bounds:
        expected = expected_opens(chunk.market.calendar, chunk.interval.name, start, end, chunk.listed_at)
        own = _within(bars, start, end)
        finer = None if fine is None else _within(fine, start, end)
        seen = sight(own, interval=chunk.interval, expected=expected, as_of=now, fine=finer)
        yield Part(start, end, own, finer, seen)


def _within(bars: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    return bars.filter(pl.col("timestamp").is_between(start, end, closed="left"))
