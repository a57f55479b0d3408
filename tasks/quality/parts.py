"""Read a chunk's partitions with what was expected of each, a year of one symbol in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lake.calendar import TradingCalendar
from lake.store import Lake
from lake.timeline import Interval
from tasks.quality.expected import expected_opens
from tasks.quality.plan import Chunk
from tasks.quality.profile import Before, Sight, sight
from tasks.quality.resample import finer_bars

#: Exchanges close for a week at most (the week of 11 September 2001, lunar new year): longer ones compare with nothing.
_LONGEST_BREAK = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class Part:
    """One partition as it was read.

    Attributes:
        start: First instant of the partition.
        end: First instant after it.
        bars: What the lake holds of it.
        fine: The same made of a finer table's bars, None where there is no such table.
        before: The last bar before the partition, None where there is none near.
        seen: The bars beside what was expected.
    """

    start: datetime
    end: datetime
    bars: pl.DataFrame
    fine: pl.DataFrame | None
    before: Before | None
    seen: Sight


def parts(lake: Lake, chunk: Chunk, now: datetime, only: Collection[datetime] | None = None) -> Iterator[Part]:
    """Yield the partitions of a chunk, or those of them that start at `only`."""
    bounds = [each for each in chunk.bounds if only is None or each[0] in only]
    first, last = bounds[0][0], bounds[-1][1]
    bars = read_from_before(lake, chunk.symbol, chunk.interval, first, last)
    calendar = TradingCalendar.parse(chunk.market.calendar)
    fine = finer_bars(lake, chunk.symbol, chunk.interval, first, last, calendar)
    for start, end in bounds:
        expected = expected_opens(chunk.market.calendar, chunk.interval.name, start, end, chunk.listed_at)
        own, before = between(bars, start, end)
        finer = None if fine is None else between(fine, start, end)[0]
        seen = sight(own, interval=chunk.interval, expected=expected, as_of=now, fine=finer, before=before)
        yield Part(start, end, own, finer, before, seen)


def read_from_before(lake: Lake, symbol: str, interval: Interval, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the bars in ``[start, end)`` and those of a stretch before it that is longer than any break."""
    stretch = max(_LONGEST_BREAK, 10 * (interval.step or timedelta(days=31)))
    return lake.read_bars(symbol, interval.name, start - stretch, end)


def between(bars: pl.DataFrame, start: datetime, end: datetime) -> tuple[pl.DataFrame, Before | None]:
    """Return the bars in ``[start, end)``, and the last one before."""
    times = bars["timestamp"]
    if not times.is_sorted():
        bars = bars.filter(pl.col("timestamp") < end)
        earlier = bars.filter(pl.col("timestamp") < start)
        return bars.filter(pl.col("timestamp") >= start), _last(earlier)
    # a slice copies nothing, a filter copies a year twelve times
    first, last = int(times.search_sorted(start)), int(times.search_sorted(end))
    return bars[first:last], _last(bars[:first])


def _last(bars: pl.DataFrame) -> Before | None:
    return Before(*bars.select("timestamp", "close").row(-1)) if bars.height else None
