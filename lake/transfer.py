"""Bars in from files and out to files, CSV or Parquet. What a column means is never guessed silently."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from lake.schema import BARS, TIMESTAMP, as_bars
from lake.timeline import interval as interval_named
from lake.writes import WriteReceipt
from tasks.errors import InputError, SchemaError

if TYPE_CHECKING:
    from lake.store import Lake

#: What readers raise on damaged bytes; polars can panic, which is no PolarsError and not even an Exception.
DAMAGED = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
    *(pa.ArrowException, OSError, MemoryError, UnicodeDecodeError),
)

#: Endings of the files that are known.
FILES = (".csv", ".parquet")

#: Spellings met in the wild, used only to suggest a mapping.
_KNOWN_AS = {
    "timestamp": ("time", "date", "datetime", "open_time", "opentime", "ts", "t", "unix", "day"),
    "open": ("o", "open_price", "px_open"),
    "high": ("h", "high_price", "px_high"),
    "low": ("l", "low_price", "px_low"),
    "close": ("c", "close_price", "px_last", "last", "adj close"),
    "volume": ("v", "vol", "volume_base", "base_volume", "qty"),
    "quote_volume": ("quote_asset_volume", "turnover", "amount", "volume_quote", "qv"),
}

#: Digits of whole numbers since the epoch, for times from 2001 to 2286.
_EPOCH_DIGITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}


def import_bars(
    lake: Lake,
    path: str | Path,
    *,
    symbol: str,
    interval: str,
    columns: Mapping[str, str] | None = None,
    time_zone: str | None = None,
) -> WriteReceipt:
    """Write the bars of a file into the lake, as `read_bars_file` reads them.

    Raises:
        InputError: The file's columns have other names and no mapping was given, or its times cannot be read.
        DataError: Two rows of one timestamp differ. Nothing was written.
    """
    bars = read_bars_file(path, columns=columns, time_zone=time_zone)
    if not bars.height:
        raise InputError(f"import: expected bars in {path}, found no rows")
    end = interval_named(interval).next(bars["timestamp"][-1])
    return lake.write_bars(bars, symbol=symbol, interval=interval, start=bars["timestamp"][0], end=end)


def export_bars(
    lake: Lake,
    path: str | Path,
    *,
    symbol: str,
    interval: str,
    start: datetime | None = None,
    end: datetime | None = None,
    version: int | None = None,
) -> int:
    """Write one symbol's bars to a new CSV or Parquet file and return their number; the file appears whole or not.

    Raises:
        InputError: There are no such bars, or the file cannot be written.
    """
    target = Path(path)
    kind = _kind(target)
    bars = lake.read_bars(symbol, interval, start, end, version=version)
    if bars.is_empty():
        raise InputError(f"export: expected {interval} bars of {symbol}, found none; `klinehouse status` lists them")
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            if kind == ".csv":
                bars.write_csv(file, datetime_format="%Y-%m-%dT%H:%M:%S%.fZ")
            else:
                bars.write_parquet(file)
        os.replace(part, target)
    except OSError as error:
        with suppress(OSError):  # where it could not even be made
            part.unlink()
        raise InputError(
            f"export: expected a file that can be written at {target}, found: {error.strerror or error}"
        ) from None
    return bars.height


def read_bars_file(
    path: str | Path, *, columns: Mapping[str, str] | None = None, time_zone: str | None = None
) -> pl.DataFrame:
    """Return the bars of a CSV or Parquet file as sorted `BARS`; rows that are repeated word for word are dropped.

    Args:
        path: The file; its ending says which kind.
        columns: Our name to the file's, where they differ: ``{"timestamp": "Date", "close": "Last"}``.
        time_zone: Zone of times that name none, such as ``UTC`` or ``America/New_York``.

    Raises:
        InputError: A column is missing (the message shows the mapping to give), or the times cannot be read.
    """
    source = Path(path)
    raw = _read(source)
    chosen = _mapped(raw, dict(columns or {}), source)
    try:
        bars = as_bars(chosen.with_columns(_times(chosen["timestamp"], time_zone)))
    except SchemaError as error:
        raise InputError(f"import: {source}: {error}") from error
    return bars.unique(maintain_order=True).sort("timestamp")


def as_frame(table: pa.Table) -> pl.DataFrame:
    """Return a table that pyarrow read from strangers' bytes; a damaged length makes polars' own readers abort.

    Raises:
        ArrowException: What the table says of itself does not hold; one of `DAMAGED`, as all that is raised here.
    """
    table.validate(full=True)
    return pl.from_arrow(table)  # type: ignore[return-value]


def _read(source: Path) -> pl.DataFrame:
    kind = _kind(source)
    if source.is_dir():
        raise InputError(f"import: expected a file at {source}, found a folder")
    try:
        return pl.read_csv(source, infer_schema_length=None) if kind == ".csv" else _read_parquet(source)
    except FileNotFoundError:
        raise InputError(f"import: expected a file at {source}, found none") from None
    except DAMAGED as error:
        raise InputError(f"import: {source}: expected a whole {kind} file, found a damaged one: {error}") from None


def _read_parquet(source: Path) -> pl.DataFrame:
    return as_frame(parquet.read_table(source, use_threads=False, memory_map=False))


def _kind(path: Path) -> str:
    if path.suffix not in FILES:
        raise InputError(f"file: expected a name ending in .csv or .parquet, found {path.name!r}")
    return path.suffix


def _mapped(raw: pl.DataFrame, columns: dict[str, str], path: Path) -> pl.DataFrame:
    names = {name: columns.get(name, name) for name in BARS}
    required = {name: theirs for name, theirs in names.items() if name != "quote_volume" or name in columns}
    unknown = sorted(set(columns) - set(BARS))
    if unknown or not set(required.values()) <= set(raw.columns):
        suggestion = {name: _suggest(name, raw.columns) for name in BARS if name != "quote_volume"}
        raise InputError(
            f"import: {path}: expected columns {list(BARS)} (quote_volume may be absent), found {raw.columns}; "
            f"say which is which, replacing each '?': columns={suggestion}"
        )
    return raw.select(pl.col(theirs).alias(name) for name, theirs in names.items() if theirs in raw.columns)


def _suggest(name: str, found: list[str]) -> str:
    spellings = (name, *_KNOWN_AS[name])
    return next((column for column in found if column.strip().lower() in spellings), "?")


def _times(column: pl.Series, time_zone: str | None) -> pl.Series:
    if column.dtype.is_integer():
        digits = set(column.abs().cast(pl.String).str.len_chars().to_list())
        unit = _EPOCH_DIGITS.get(digits.pop()) if len(digits) == 1 else None
        if unit is None:
            raise InputError("import: expected times since the epoch in s, ms, us or ns, found other whole numbers")
        try:
            return pl.from_epoch(column, unit).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("timestamp")  # type: ignore[arg-type]
        except pl.exceptions.PolarsError:
            raise InputError(f"import: expected times from 2001 to 2286, found such as {column[0]}") from None
    if column.dtype == pl.String:
        column = _parsed(column)
    if not isinstance(column.dtype, pl.Datetime | pl.Date):
        raise InputError(f"import: expected times as ISO 8601 text, datetimes or whole numbers, found {column.dtype}")
    moments = column.cast(pl.Datetime("us", getattr(column.dtype, "time_zone", None)))
    if isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone is None:
        if not time_zone:
            raise InputError('import: expected times that name their zone, found none; give time_zone="UTC" or another')
        moments = _placed(moments, time_zone)
    return moments.dt.convert_time_zone("UTC").cast(TIMESTAMP).alias("timestamp")


def _placed(moments: pl.Series, time_zone: str) -> pl.Series:
    try:
        return moments.dt.replace_time_zone(time_zone)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"import: expected times of the zone {time_zone!r} that it has once, found others; write their offset "
            f"(+00:00) into the file, or name another zone: {error}"
        ) from error


def _parsed(column: pl.Series) -> pl.Series:
    zoned = column.str.contains(r"(Z|[+-]\d\d:?\d\d)$").all()
    try:
        if zoned:
            return column.str.replace(r"Z$", "+00:00").str.to_datetime(time_unit="us", time_zone="UTC")
        return column.str.to_datetime(time_unit="us")
    except pl.exceptions.PolarsError as error:
        raise InputError(f"import: expected times as ISO 8601 text, found such as {column[0]!r}: {error}") from error
