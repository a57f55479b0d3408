"""Bars for readers of pyarrow and pandas: only the row groups that hold the range are read, then cut to it exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import Dataset

from lake.bars import checked_range, table_name
from lake.damage import reading
from lake.location import Location
from lake.schema import BARS
from tasks.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from lake.store import Lake

_FEW_COLUMNS = 2
_SCHEMA = pl.DataFrame(schema=BARS).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


def read_arrow(
    lake: Lake,
    symbol: str,
    interval: str,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    columns: Sequence[str] | None = None,
    version: int | None = None,
) -> pa.Table:
    """Return one symbol's bars in order as a pyarrow table: all of `BARS`, or the named columns."""
    start, end = checked_range(start, end)
    names = _checked_columns(columns)
    snapshot = lake.snapshot(table_name(interval), version)
    files = [] if snapshot is None else snapshot.bounds.get(symbol, [])
    location = lake.table(table_name(interval)).location
    with reading(location, pl.DataFrame() if snapshot is None else snapshot.files):
        parts = [
            part
            for path, first, last in files
            if (start is None or last >= start) and (end is None or first < end)
            for part in _read(location, path, names, start, end)
        ]
    if not parts:
        return _SCHEMA.empty_table().select(names)
    return pa.concat_tables(parts)


def read_pandas(
    lake: Lake,
    symbol: str,
    interval: str,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    columns: Sequence[str] | None = None,
    version: int | None = None,
) -> pd.DataFrame:
    """Return one symbol's bars in order as a pandas frame; `timestamp` is a column of `datetime64[us, UTC]`."""
    return read_arrow(lake, symbol, interval, start, end, columns=columns, version=version).to_pandas()


def dataset(lake: Lake, interval: str, *, version: int | None = None) -> Dataset:
    """Return all bars of an interval as a pyarrow dataset, for tools that take one; empty where there are none."""
    snapshot = lake.snapshot(table_name(interval), version)
    if snapshot is None:
        raise InputError(f"lake: expected bars of {interval}, found none; intervals with bars: {lake.tables()}")
    return lake.table(table_name(interval)).dataset(snapshot)


def _checked_columns(columns: Sequence[str] | None) -> list[str]:
    names = list(BARS if columns is None else columns)
    unknown = [name for name in names if name not in BARS]
    if unknown:
        raise InputError(f"bars: expected columns of {list(BARS)}, found {unknown}")
    return names


def _read(
    location: Location, path: str, names: list[str], start: datetime | None, end: datetime | None
) -> Iterator[pa.Table]:
    """Yield a file's rows in the range; the timestamps are read to find it, and dropped again where not asked for."""
    with location.open_parquet(path) as file:
        groups = list(_groups(file.metadata, start, end))
        if groups:
            wanted = names if "timestamp" in names else ["timestamp", *names]
            # Threads would save nothing on two columns, and cost a wait wherever the cores are busy.
            table = file.read_row_groups(groups, columns=wanted, use_threads=len(wanted) > _FEW_COLUMNS)
            yield _cut(table, start, end).select(names)


def _groups(metadata: pq.FileMetaData, start: datetime | None, end: datetime | None) -> Iterator[int]:
    column = metadata.schema.to_arrow_schema().get_field_index("timestamp")
    for group in range(metadata.num_row_groups):
        bounds = metadata.row_group(group).column(column).statistics
        if (start is None or bounds.max >= start) and (end is None or bounds.min < end):
            yield group


def _cut(table: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    if start is None and end is None:
        return table
    times = table.column("timestamp")
    first = 0 if start is None else _rows_before(times, start)
    last = table.num_rows if end is None else _rows_before(times, end)
    return table.slice(first, last - first)


def _rows_before(times: pa.ChunkedArray, moment: datetime) -> int:
    value = pa.scalar(moment, times.type).value
    return sum(int(np.searchsorted(chunk.view("int64").to_numpy(), value)) for chunk in times.chunks)
