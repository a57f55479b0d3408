"""The bars that got a partition rejected, each with its reasons, for a person to look at."""

from __future__ import annotations

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


def put(lake: Lake, bad_rows: pl.DataFrame, *, symbol: str, interval: str, start: datetime, end: datetime) -> int:
    """Put the bars that break a `reject` rule in place of what the partition had in quarantine; return how many."""
    reject = [name for name, rule in BY_NAME.items() if rule.severity == "reject"]
    held = bad_rows.filter(pl.col("reasons").list.eval(pl.element().is_in(reject)).list.any())
    if not held.height and not lake.exists(QUARANTINE):
        return 0
    where = {"symbol": symbol, "interval": interval, "partition_start": start, "partition_end": end}
    rows = held.with_columns(
        **{name: pl.lit(value, QUARANTINE_TABLE[name]) for name, value in where.items()},
        reasons=pl.col("reasons").list.join(" "),
        checked_at=pl.lit(lake.now(), TIMESTAMP),
    )
    lake.replace(QUARANTINE, rows.select(list(QUARANTINE_TABLE)), where=where, partition_by=("interval",))
    return held.height


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
