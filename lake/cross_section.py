"""Bars of many symbols side by side: one row a symbol and time bucket, faster than any general query engine groups.

Two keys in one integer: a file holds one symbol and knows its name from its folder, so that rows are grouped by a
number instead of a text and a time. The grouping costs a third of what it costs under two keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from lake.bars import checked_range, files_within, table_name, within
from lake.damage import reading
from lake.timeline import interval as interval_named
from tasks.errors import InputError

if TYPE_CHECKING:
    from lake.store import Lake

_MICROSECOND = timedelta(microseconds=1)
#: Buckets on each side of 1970 that fit into a key; symbols are counted above them.
_BUCKETS = 1 << 39


def cross_section(
    lake: Lake,
    interval: str,
    every: str,
    aggregates: Sequence[pl.Expr],
    *,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    version: int | None = None,
) -> pl.DataFrame:
    """Aggregate the bars of many symbols over time buckets.

    Args:
        lake: Where the bars are.
        interval: Interval of the bars.
        every: Length of a bucket, an interval of up to a day; buckets begin at whole multiples of it, UTC.
        aggregates: What to compute of `BARS`, each a named polars aggregation such as ``pl.mean("close")``.
        symbols: Which symbols; all by default.
        start: First open.
        end: First open after the range.
        version: Version of the bar table; the newest by default.

    Returns:
        `symbol`, `bucket` (its begin) and the aggregates, sorted; only buckets that hold bars.

    Raises:
        InputError: `every` is no interval of up to a day, or `symbols` is a text.
    """
    step = interval_named(every).step
    if step is None or step > timedelta(days=1):
        raise InputError(f"cross-section: expected buckets of up to a day, such as 1h or 1d, found {every}")
    if isinstance(symbols, str):
        raise InputError(f"symbols: expected a list of symbols, found the text {symbols!r}; write [{symbols!r}]")
    start, end = checked_range(start, end)
    width = step // _MICROSECOND
    snapshot = lake.snapshot(table_name(interval), version)
    files = None if snapshot is None else files_within(snapshot, symbols, start, end)
    if files is None or not files.height:
        nothing = pl.DataFrame(schema=lake.scan_bars(interval).collect_schema())
        return nothing.group_by("symbol", pl.col("timestamp").alias("bucket")).agg(aggregates)
    names = pl.Series("symbol", files["partition.symbol"].unique().sort())
    bars = lake.table(table_name(interval)).scan(files, partitions={"symbol": pl.Enum(names), "year": pl.Int32()})
    bucket = pl.col("timestamp").to_physical() // width + _BUCKETS
    key = pl.col("symbol").to_physical().cast(pl.Int64) * (2 * _BUCKETS) + bucket
    lazy = bars.filter(within(start, end)).group_by(key.alias("key")).agg(aggregates)
    with reading(lake.table(table_name(interval)).location, files):
        found = lazy.collect(engine="streaming").sort("key")
    bucket = pl.col("key") % (2 * _BUCKETS) - _BUCKETS
    return found.select(
        names.gather(found["key"] // (2 * _BUCKETS)),
        (bucket * width).cast(pl.Datetime("us", "UTC")).alias("bucket"),
        pl.exclude("key"),
    )
