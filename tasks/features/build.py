"""Feature tables in the lake: ``features/<interval>``, brought up to date from the bars.

Only new bars are computed, with the bars before them that the slowest feature needs to warm up, as long as the stored
rows still follow from the lake's bars by the present code. The mark of that is a row in ``features/builds``: the hash
of the bars up to the last one built, of the code, and the columns. Where one of them differs, all is built anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lake.store import Lake
from lake.timeline import utc
from tasks.errors import InputError
from tasks.features.compute import compute_features, parse_name, warm_up
from tasks.features.fingerprint import features_code
from tasks.features.registry import BAR_FEATURES

BUILDS = "features/builds"
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Built:
    """What a build came to.

    Attributes:
        rows: Rows computed and written.
        columns: Feature columns in them.
        incremental: Whether earlier rows were kept.
    """

    rows: int
    columns: int
    incremental: bool


def table_of(interval: str) -> str:
    """Return the name of the feature table of an interval."""
    return f"features/{interval}"


def build(
    lake: Lake,
    symbol: str,
    interval: str,
    names: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    benchmark: str | None = None,
) -> Built:
    """Compute features of a symbol's bars and write them to the lake.

    Args:
        lake: Holds the bars.
        symbol: Whose bars.
        interval: Of which interval.
        names: Features, `BAR_FEATURES` by default.
        start: First open to compute; None continues where the last build ended, or begins anew where it is outdated.
        end: Exclusive; None is the end of the bars. A range given here leaves the mark of the last build as it is, or
            drops it where that build was of another kind: what it built is then no longer whole.
        benchmark: Symbol that correlation and beta are taken with.

    Raises:
        InputError: The lake has no bars of the symbol, or a name is unknown.
    """
    names = tuple(names if names is not None else BAR_FEATURES)
    if symbol not in lake.symbols(interval):
        raise InputError(f"features: expected bars of {symbol} at {interval} in the lake, found none; run a backfill")
    version = lake.bars_version(interval)
    mark = _mark(lake, symbol, interval, names, benchmark)
    ranged = start is not None or end is not None
    last = None if ranged else _last_built(lake, symbol, interval, version, mark)
    if ranged:
        _forget_others(lake, mark)
    first = last + _TICK if last is not None else start
    bars = lake.read_bars(symbol, interval, _history_start(lake, symbol, interval, names, first), end, version=version)
    others = None if benchmark is None else lake.read_bars(benchmark, interval, version=version)
    rows = compute_features(bars, names, interval=interval, benchmark=others)
    if first is not None:
        rows = rows.filter(pl.col("timestamp") >= utc(first))
    _write(lake, symbol, interval, rows, keep=ranged or last is not None)
    if not ranged and not bars.is_empty():
        _store_mark(lake, symbol, interval, version, mark, bars["timestamp"][-1])
    return Built(rows.height, len(names), last is not None)


def _mark(lake: Lake, symbol: str, interval: str, names: Sequence[str], benchmark: str | None) -> dict[str, object]:
    other = "" if benchmark is None else f"{benchmark} {lake.content_hash(interval, benchmark)}"
    return {
        "symbol": symbol,
        "interval": interval,
        "columns": ",".join(names),
        "code": features_code(),
        "benchmark": other,
    }


def _last_built(
    lake: Lake, symbol: str, interval: str, version: int | None, mark: dict[str, object]
) -> datetime | None:
    """Return the last bar built, None where the stored rows no longer follow from bars and code."""
    found = _marked(lake, mark)
    if found is None or found.is_empty():
        return None
    through = found["through"][0]
    now = lake.content_hash(interval, symbol, None, through + _TICK, version)
    return through if now == found["bars_hash"][0] else None


def _marked(lake: Lake, mark: dict[str, object]) -> pl.DataFrame | None:
    """Return the builds on record that are of this kind, one at most; None where there is no record."""
    if not lake.exists(BUILDS):
        return None
    return lake.scan(BUILDS).filter(*(pl.col(name) == value for name, value in mark.items())).collect()


def _forget_others(lake: Lake, mark: dict[str, object]) -> None:
    """Drop the mark of a build by other code, of other columns or with another benchmark."""
    found = _marked(lake, mark)
    if found is not None and found.is_empty():
        lake.replace(BUILDS, found, where={name: mark[name] for name in ("symbol", "interval")})


def _store_mark(
    lake: Lake, symbol: str, interval: str, version: int | None, mark: dict[str, object], through: datetime
) -> None:
    bars_hash = lake.content_hash(interval, symbol, None, through + _TICK, version)
    row = pl.DataFrame([{**mark, "through": through, "bars_hash": bars_hash}])
    lake.replace(BUILDS, row, where={"symbol": symbol, "interval": interval})


def _history_start(
    lake: Lake, symbol: str, interval: str, names: Sequence[str], first: datetime | None
) -> datetime | None:
    """Return the open from which bars must be read so that every feature is warm at `first`."""
    if first is None:
        return None
    needed = max(warm_up(name, interval) for name in names)
    earlier = lake.read_bars(symbol, interval, None, first, columns=["timestamp"])["timestamp"].tail(needed)
    by_bars = earlier[0] if len(earlier) else utc(first)
    days = max(parse_name(name)[0].days for name in names)
    return min(by_bars, utc(first) - timedelta(days=days))


def _write(lake: Lake, symbol: str, interval: str, rows: pl.DataFrame, *, keep: bool) -> None:
    year = pl.col("timestamp").dt.year().cast(pl.Int32).alias("year")
    rows = rows.select(pl.lit(symbol).alias("symbol"), year, pl.all())
    for (number,), part in rows.group_by("year", maintain_order=True):
        first, last = part["timestamp"][0], part["timestamp"][-1]

        def merged(
            old: pl.DataFrame, part: pl.DataFrame = part, first: datetime = first, last: datetime = last
        ) -> pl.DataFrame:
            outside = old.filter((pl.col("timestamp") < first) | (pl.col("timestamp") > last))
            return pl.concat([outside, part], how="diagonal_relaxed").sort("timestamp") if keep else part

        where = {"symbol": symbol, "year": number}
        lake.update(table_of(interval), merged, where=where, empty=part.clear(), partition_by=("symbol", "year"))
