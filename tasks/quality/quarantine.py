"""The bars that got a partition rejected, each with its reasons, for a person to look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from lake.schema import BARS, TIMESTAMP
from lake.store import Lake
from tasks.quality.rules import BY_NAME

QUARANTINE = "quality/quarantine"

#: `reasons` holds the names of the rules, separated by a blank; an absent bar has nulls for values.
QUARANTINE_TABLE: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "interval": pl.String(),
    "partition_start": TIMESTAMP,
    "partition_end": TIMESTAMP,
    **BARS,
    "reasons": pl.String(),
    "checked_at": TIMESTAMP,
}


def put(lake: Lake, symbol: str, interval: str, bad_rows: Mapping[tuple[datetime, datetime], pl.DataFrame]) -> int:
    """Put the bars that break a `reject` rule in place of what their partitions had in quarantine; return how many.

    Args:
        lake: Where quarantine is.
        symbol: The bars' symbol.
        interval: Their interval.
        bad_rows: By ``(start, end)`` of each partition judged, what `tasks.quality.profile.bad_rows` found in it.
    """
    frames = [_held(bad, symbol, interval, start, end, lake.now()) for (start, end), bad in bad_rows.items()]
    held = pl.concat([pl.DataFrame(schema=QUARANTINE_TABLE), *frames])
    if not held.height and not lake.exists(QUARANTINE):
        return 0
    judged = [pl.struct("partition_start", "partition_end") == _span(start, end) for start, end in bad_rows]

    def change(before: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([before.select(list(QUARANTINE_TABLE)).filter(~pl.any_horizontal(judged)), held])

    where = {"symbol": symbol, "interval": interval}
    lake.update(QUARANTINE, change, where=where, empty=held.clear(), partition_by=("interval", "symbol"))
    return held.height


def _span(start: datetime, end: datetime) -> pl.Expr:
    return pl.struct(partition_start=pl.lit(start, TIMESTAMP), partition_end=pl.lit(end, TIMESTAMP))


def _held(bad: pl.DataFrame, symbol: str, interval: str, start: datetime, end: datetime, now: datetime) -> pl.DataFrame:
    reject = [name for name, rule in BY_NAME.items() if rule.severity == "reject"]
    rows = bad.filter(pl.col("reasons").list.eval(pl.element().is_in(reject)).list.any())
    return rows.select(
        pl.lit(symbol).alias("symbol"),
        pl.lit(interval).alias("interval"),
        pl.lit(start, TIMESTAMP).alias("partition_start"),
        pl.lit(end, TIMESTAMP).alias("partition_end"),
        *BARS,
        pl.col("reasons").list.join(" "),
        pl.lit(now, TIMESTAMP).alias("checked_at"),
    )


def read(lake: Lake, interval: str | None = None, symbol: str | None = None) -> pl.DataFrame:
    """Return the bars in quarantine, in order, with the columns of `QUARANTINE_TABLE`."""
    if not lake.exists(QUARANTINE):
        return pl.DataFrame(schema=QUARANTINE_TABLE)
    keep = [pl.lit(True)]
    if interval is not None:
        keep.append(pl.col("interval") == interval)
    if symbol is not None:
        keep.append(pl.col("symbol") == symbol)
    found = lake.scan(QUARANTINE).filter(keep).select(list(QUARANTINE_TABLE)).collect()
    return found.sort("interval", "symbol", "partition_start", "timestamp")
