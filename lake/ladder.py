"""Bars up and down the storage ladder: a file, a lake in a folder, a lake in object storage, Redis.

Where bars go or come from is one word, and its form says what it is: ``prices.csv`` or ``prices.parquet`` is a file,
``redis://host/0`` is Redis, ``s3://bucket/prefix`` or an existing folder is another lake.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from lake.timeline import interval as interval_named
from lake.transfer import FILES, export_bars, import_bars
from lake.writes import WriteReceipt
from tasks.errors import InputError

if TYPE_CHECKING:
    from lake.store import Lake

Rung = Literal["file", "lake", "redis"]
#: Bars of a symbol that Redis is given where nobody says how many: a hot copy is small.
HOT_BARS = 1_000


def rung_of(place: str) -> Rung:
    """Return what a place is.

    Raises:
        InputError: It has none of the known forms.
    """
    if place.startswith(("redis://", "rediss://", "unix://")):
        return "redis"
    if Path(place).suffix in FILES:
        return "file"
    if "://" in place or (place and Path(place).is_dir()):
        return "lake"
    raise InputError(
        f"place: expected a name ending in .csv or .parquet, redis://…, s3://… or an existing folder, found {place!r}"
    )


def export_to(
    lake: Lake, place: str, *, symbol: str, interval: str, version: int | None = None, newest: int | None = None
) -> int:
    """Copy a symbol's bars out of the lake to a place, and return how many.

    Args:
        lake: Whose bars.
        place: Where to; see the module.
        symbol: The vendor's spelling.
        interval: Length of a bar.
        version: Version of the table; the newest where it is left out.
        newest: Only that many of the newest bars; for Redis `HOT_BARS` where it is left out.

    Raises:
        InputError: There are no such bars, or the place is none or cannot be written.
    """
    rung = rung_of(place)
    if newest is not None and newest < 1:
        raise InputError(f"newest: expected 1 or more, found {newest}")
    kept = HOT_BARS if rung == "redis" and newest is None else newest
    if rung == "file":
        start = _start_of_newest(lake, symbol, interval, version, kept)
        return export_bars(lake, place, symbol=symbol, interval=interval, start=start, version=version)
    bars = lake.read_bars(symbol, interval, version=version)
    bars = bars if kept is None else bars.tail(kept)
    if rung == "redis":
        from lake.hot import write_hot  # 0.3 s to import, for those who have a Redis

        return write_hot(place, bars, symbol=symbol, interval=interval)
    return _write(_lake(place), bars, symbol, interval).rows_written


def import_from(
    lake: Lake,
    place: str,
    *,
    symbol: str,
    interval: str,
    columns: Mapping[str, str] | None = None,
    time_zone: str | None = None,
) -> WriteReceipt:
    """Bring a symbol's bars from a place into the lake; `columns` and `time_zone` are for files, as in `import_bars`.

    Raises:
        InputError: The place has no such bars, or a file's columns need a mapping.
    """
    rung = rung_of(place)
    if rung == "file":
        return import_bars(lake, place, symbol=symbol, interval=interval, columns=columns, time_zone=time_zone)
    if rung == "redis":
        from lake.hot import read_hot

        return _write(lake, read_hot(place, symbol=symbol, interval=interval), symbol, interval)
    return _write(lake, _lake(place).read_bars(symbol, interval), symbol, interval)


def _lake(root: str) -> Lake:
    from lake.store import Lake

    return Lake(root)


def _write(lake: Lake, bars: pl.DataFrame, symbol: str, interval: str) -> WriteReceipt:
    if bars.is_empty():
        raise InputError(f"transfer: expected {interval} bars of {symbol}, found none")
    end = interval_named(interval).next(bars["timestamp"][-1])
    return lake.write_bars(bars, symbol=symbol, interval=interval, start=bars["timestamp"][0], end=end)


def _start_of_newest(
    lake: Lake, symbol: str, interval: str, version: int | None, newest: int | None
) -> datetime | None:
    if newest is None:
        return None
    opens = lake.read_bars(symbol, interval, columns=["timestamp"], version=version)["timestamp"]
    return opens[-min(newest, opens.len())] if opens.len() else None
