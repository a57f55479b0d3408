"""Bars in the lake: what a write changes, and which files hold a range. Pure: frames in, frames out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from lake.rows import partition_key
from lake.schema import BARS, as_bars
from lake.snapshot import Snapshot
from lake.timeline import interval as interval_named
from lake.timeline import months, utc
from tasks.errors import DataError, InputError

#: Columns of a bar table; `symbol` and `year` partition it.
BAR_TABLE: dict[str, pl.DataType] = {"symbol": pl.String(), "year": pl.Int32(), **BARS}

VALUES = [name for name in BARS if name != "timestamp"]

_MICROSECOND = timedelta(microseconds=1)
_NO_PAIRS = pl.DataFrame(schema={**BARS, **{f"{name}_old": BARS[name] for name in VALUES}})


@dataclass(frozen=True, slots=True)
class Upsert:
    """What writing new bars over old ones comes to.

    Attributes:
        bars: Old and new together, sorted; a new bar wins over the old one of its timestamp.
        new: Timestamps that the old bars did not have.
        revised: One row a bar whose values differ: `timestamp`, the new values, the old ones as `<column>_old`.
    """

    bars: pl.DataFrame
    new: int
    revised: pl.DataFrame

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.new or self.revised.height)


def upsert(old: pl.DataFrame, new: pl.DataFrame) -> Upsert:
    """Return what `old` becomes when `new` is written over it; both are sorted `BARS` without duplicates."""
    if not (old.height and new.height):
        return Upsert(new if new.height else old, new.height, _NO_PAIRS)
    pairs = _pairs(old, new)
    differs = pl.any_horizontal(~pl.col(name).eq_missing(pl.col(f"{name}_old")) for name in VALUES)
    if old["timestamp"][-1] < new["timestamp"][0]:
        merged = pl.concat([old, new])
    else:
        merged = pl.concat([old.join(new.select("timestamp"), on="timestamp", how="anti"), new]).sort("timestamp")
    return Upsert(merged, new.height - pairs.height, pairs.filter(differs))


def _pairs(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    return new.join(old, on="timestamp", how="inner", suffix="_old", maintain_order="left")


def checked(bars: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    """Return `bars` as `BARS` after checking that they may be written into ``[start, end)``.

    Raises:
        DataError: Timestamps are null, duplicated, unsorted or outside the range; nothing was written.
    """
    bars = as_bars(bars)
    times = bars["timestamp"]
    if times.null_count():
        raise DataError(f"bars: expected a timestamp in every row, found {times.null_count()} null ones")
    if not bars.height:
        return bars
    moments = times.to_numpy()
    wrong = int(np.count_nonzero(moments[1:] <= moments[:-1]))
    if wrong:
        raise DataError(
            f"bars: expected timestamps in order without duplicates, found {wrong} out of place; sort and deduplicate"
        )
    first, last = times[0], times[-1]
    if (start is not None and first < start) or (end is not None and last >= end):
        raise DataError(f"bars: expected timestamps in [{start}, {end}), found {first} to {last}")
    return bars


def checked_range(start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """Return a half-open range in UTC; None leaves a side open.

    Raises:
        InputError: `end` lies before `start`, or a side names no time zone.
    """
    first, last = (None if side is None else utc(side) for side in (start, end))
    if first is not None and last is not None and last < first:
        raise InputError(f"range: expected start before end, found [{first}, {last})")
    return first, last


def table_name(interval: str) -> str:
    """Return the name of the table that holds bars of an interval.

    Raises:
        InputError: It is not an interval of ours.
    """
    return f"klines/{interval_named(interval).name}"


def month_keys(symbol: str, times: pl.Series) -> list[str]:
    """Return the keys under which writers of these months of a symbol find out about each other.

    Months rather than partitions, which are years: a backfill writes several months of a year side by side.

    Args:
        symbol: The symbol.
        times: Sorted opens of all bars of a file that is added; no month between the first and the last is left out.
    """
    spans = months(times[0], times[-1] + _MICROSECOND) if times.len() else ()
    return [partition_key({"symbol": symbol, "month": f"{start:%Y-%m}"}) for start, _ in spans]


def files_within(
    snapshot: Snapshot, symbols: Sequence[str] | None = None, start: datetime | None = None, end: datetime | None = None
) -> pl.DataFrame:
    """Return the files of a bar table that may hold rows of `symbols` in ``[start, end)``, in order."""
    keep = pl.lit(True)
    if symbols is not None:
        keep &= pl.col("partition.symbol").is_in(list(symbols))
    if start is not None:
        keep &= pl.col("last") >= start
    if end is not None:
        keep &= pl.col("first") < end
    return snapshot.files.filter(keep)


def within(start: datetime | None, end: datetime | None) -> pl.Expr:
    """Return the filter that keeps bars that open in ``[start, end)``."""
    keep = pl.lit(True)
    if start is not None:
        keep &= pl.col("timestamp") >= start
    if end is not None:
        keep &= pl.col("timestamp") < end
    return keep
