"""Which partitions a lake has, and which of them may have changed since they were last profiled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import Interval, partitions
from lake.timeline import interval as interval_named
from tasks.quality.expected import listings
from tasks.quality.profile import suite_version
from tasks.quality.resample import finer_interval
from tasks.quality.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class Market:
    """How a symbol is judged: its calendar, as `TradingCalendar.parse` takes it, and its limits."""

    calendar: str = "always_open"
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The partitions of one symbol that begin in one year, read together.

    Attributes:
        symbol: The vendor's spelling.
        interval: Of the bars.
        bounds: Half-open range of each partition, in order.
        market: How they are judged.
        listed_at: When trading began, None where unknown: earlier bars are not expected.
        fingerprint: Of everything a verdict depends on except the bars' values: the files, the ranges, the rules.
    """

    symbol: str
    interval: Interval
    bounds: tuple[tuple[datetime, datetime], ...]
    market: Market
    listed_at: datetime | None
    fingerprint: str


def plan(
    lake: Lake,
    interval: str,
    *,
    as_of: datetime,
    symbols: Sequence[str] | None = None,
    markets: Mapping[str, Market] | None = None,
) -> list[Chunk]:
    """Return every chunk from a symbol's first bar, or first fetched instant, to its last.

    A month that was fetched and holds no bar at all is a partition too: nothing would be missed there otherwise.
    """
    length = interval_named(interval)
    files = _files(lake, length)
    records = Ledger(lake).records(interval)
    spans = _spans(files, records, length, as_of)
    began = listings(records)
    finer = finer_interval(lake, length)
    sources = files if finer is None else pl.concat([files, _files(lake, finer)])
    known = {key: "".join(part["path"]) for key, part in sources.sort("path").group_by("symbol", "year")}
    chunks = []
    for symbol, (start, end) in sorted(spans.items()):
        if symbols is not None and symbol not in symbols:
            continue
        market = (markets or {}).get(symbol, Market())
        years: dict[int, list[tuple[datetime, datetime]]] = {}
        for bounds in partitions(interval, start, end):
            years.setdefault(bounds[0].year, []).append(bounds)
        for year, ranges in years.items():
            listed, settled = began.get(symbol), min(as_of, ranges[-1][1])
            rules = (market.calendar, suite_version(market.thresholds))
            # a decade lies in the files of ten years; the year before's last bar is what the first one is compared with
            last_year = (ranges[-1][1] - timedelta(microseconds=1)).year
            paths = [known.get((symbol, near), "") for near in range(year - 1, last_year + 1)]
            parts = [paths, ranges, listed, settled, rules]
            mark = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
            chunks.append(Chunk(symbol, length, tuple(ranges), market, listed, mark))
    return chunks


def _files(lake: Lake, length: Interval) -> pl.DataFrame:
    schema = {"symbol": pl.String(), "year": pl.Int64(), "path": pl.String()}
    stamps = {"first": pl.Datetime("us", "UTC"), "last": pl.Datetime("us", "UTC")}
    snapshot = lake.snapshot(f"klines/{length.name}")
    if snapshot is None or not snapshot.files.height:
        return pl.DataFrame(schema=schema | stamps)
    named = snapshot.files.rename({"partition.symbol": "symbol", "partition.year": "year"})
    return named.select(pl.col(name).cast(kind) for name, kind in (schema | stamps).items())


def _spans(
    files: pl.DataFrame, records: pl.DataFrame, length: Interval, as_of: datetime
) -> dict[str, tuple[datetime, datetime]]:
    """Return for each symbol the range from the first thing known about it to the last, up to what has closed."""
    answered = records.filter(pl.col("kind") == "answered").select("symbol", first="start", last="end")
    bars = files.group_by("symbol").agg(pl.col("first").min(), pl.col("last").max())
    spans: dict[str, tuple[datetime, datetime]] = {}
    for symbol, first, last in bars.iter_rows():
        spans[symbol] = (length.floor(first), length.next(length.floor(last)))
    for symbol, first, last in answered.iter_rows():
        start, end = spans.get(symbol, (first, last))
        spans[symbol] = (min(start, first), max(end, min(last, length.closed_end(as_of))))
    return spans
