"""Profiles on record: what both tiers counted in a partition, and what that was based on."""

from __future__ import annotations

import hashlib
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


def keyed(
    profile: pl.DataFrame, part: Part, *, symbol: str, market: Market, now: datetime, fingerprint: str = ""
) -> pl.DataFrame:
    """Return a partition's profile as a row of `PROFILE_TABLE`: whose it is and what it follows from."""
    content, version = content_hash([part.bars]), suite_version(market.thresholds)
    finer = "" if part.fine is None else content_hash([part.fine])
    basis = (content, finer, part.before, version, market.calendar, part.seen.expected_rows, min(utc(now), part.end))
    row = {
        "symbol": symbol,
        "interval": part.seen.interval.name,
        "partition_start": part.start,
        "partition_end": part.end,
        "content_hash": content,
        "fingerprint": fingerprint,
        "judged_on": hashlib.sha256(repr(basis).encode()).hexdigest()[:16],
        "suite_version": version,
        "profiled_at": now,
    }
    values = {name: pl.lit(value, PROFILE_TABLE[name]) for name, value in row.items()}
    return profile.with_columns(**values).select(list(PROFILE_TABLE))


def append_profiles(lake: Lake, rows: pl.DataFrame) -> None:
    """Put profiles on record."""
    lake.append(PROFILES, rows.select(list(PROFILE_TABLE)), partition_by=("interval",))


def read_profiles(lake: Lake, interval: str) -> pl.DataFrame:
    """Return the newest profile of each partition, with the columns of `PROFILE_TABLE`."""
    if not lake.exists(PROFILES):
        return pl.DataFrame(schema=PROFILE_TABLE)
    found = lake.scan(PROFILES).filter(pl.col("interval") == interval).select(list(PROFILE_TABLE)).collect()
    return found.sort("profiled_at", maintain_order=True).unique(list(KEY), keep="last", maintain_order=True)
