"""Profiles on record: what both tiers counted in a partition, and what that was based on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import polars as pl

from lake.digest import content_hash
from lake.schema import TIMESTAMP
from lake.store import Lake
from lake.timeline import utc
from tasks.quality.parts import Part
from tasks.quality.plan import Market
from tasks.quality.profile import PROFILE, suite_version

PROFILES = "quality/profiles"
KEY = ("symbol", "interval", "partition_start", "partition_end")

#: `judged_on` identifies everything a verdict follows from; `fingerprint` the files it was read from, where known.
PROFILE_TABLE: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "interval": pl.String(),
    "partition_start": TIMESTAMP,
    "partition_end": TIMESTAMP,
    "content_hash": pl.String(),
    "fingerprint": pl.String(),
    "judged_on": pl.String(),
    "suite_version": pl.String(),
    **PROFILE,
    "profiled_at": TIMESTAMP,
}


def key_of(part: Part, *, symbol: str, market: Market, now: datetime, fingerprint: str = "") -> tuple[object, ...]:
    """Return whose a partition's profile is and what it follows from, in the order of `PROFILE_TABLE`."""
    content, version = content_hash([part.bars]), suite_version(market.thresholds)
    finer = "" if part.fine is None else content_hash([part.fine])
    basis = (content, finer, part.before, version, market.calendar, part.seen.expected_rows, min(utc(now), part.end))
    mark = hashlib.sha256(repr(basis).encode()).hexdigest()[:16]
    return symbol, part.seen.interval.name, part.start, part.end, content, fingerprint, mark, version, now


def keyed(keys: Sequence[tuple[object, ...]], profiles: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return profiles beside their keys (see `key_of`) as rows of `PROFILE_TABLE`."""
    schema = {name: kind for name, kind in PROFILE_TABLE.items() if name not in PROFILE}
    found = pl.DataFrame(keys, schema=schema, orient="row").hstack(pl.concat(profiles))
    return found.select(list(PROFILE_TABLE))


def append_profiles(lake: Lake, rows: pl.DataFrame) -> None:
    """Put profiles on record."""
    lake.append(PROFILES, rows.select(list(PROFILE_TABLE)), partition_by=("interval",))


def read_profiles(lake: Lake, interval: str) -> pl.DataFrame:
    """Return the newest profile of each partition, with the columns of `PROFILE_TABLE`."""
    if not lake.exists(PROFILES):
        return pl.DataFrame(schema=PROFILE_TABLE)
    found = lake.scan(PROFILES).filter(pl.col("interval") == interval).select(list(PROFILE_TABLE)).collect()
    return found.sort("profiled_at", maintain_order=True).unique(list(KEY), keep="last", maintain_order=True)
