"""The room's door to Prefect: keys and limits in, small results out; Great Expectations loads only when a task runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.store import Lake
from tasks.quality import partition, verdicts, whole_lake
from tasks.quality.plan import Market
from tasks.quality.thresholds import Thresholds
from tasks.quality.verdicts import Verdict
from tasks.quality.whole_lake import LakeReceipt


@task(name="check-partition", cache_policy=NO_CACHE)
def check_partition(
    lake_root: str,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    calendar: str = partition.ALWAYS_OPEN,
    thresholds: Thresholds | None = None,
    as_of: datetime | None = None,
) -> Verdict:
    """Judge what the lake holds of a symbol in ``[start, end)``; store the verdict, and bad bars in quarantine.

    Args:
        lake_root: Folder or address of the lake.
        symbol: The vendor's spelling.
        interval: Interval of the bars.
        start: First instant of the partition.
        end: First instant after it.
        calendar: Which bars are expected, as `TradingCalendar.parse` takes it: `always_open`, `exchange:XNYS`, JSON.
        thresholds: The market's limits; those of a market that never closes where they are left out.
        as_of: When the bars were taken; now where it is left out.
    """
    return partition.check(
        Lake(lake_root),
        symbol,
        interval,
        start,
        end,
        calendar=calendar,
        thresholds=thresholds or Thresholds(),
        as_of=as_of,
    )


@task(name="check-lake", cache_policy=NO_CACHE)
def check_lake(
    lake_root: str,
    interval: str,
    symbols: Sequence[str] | None = None,
    markets: Mapping[str, Market] | None = None,
    as_of: datetime | None = None,
) -> LakeReceipt:
    """Judge every partition of an interval that changed since its last verdict.

    Args:
        lake_root: Folder or address of the lake.
        interval: Interval of the bars.
        symbols: Only these; all by default.
        markets: Calendar and limits by symbol; a liquid market that never closes by default.
        as_of: The moment that decides which bars have closed; now by default.
    """
    return whole_lake.check_lake(Lake(lake_root), interval, symbols=symbols, markets=markets, as_of=as_of)


@task(name="release-partitions", cache_policy=NO_CACHE)
def release_partitions(
    lake_root: str, symbol: str, interval: str, start: datetime, end: datetime, reason: str, released_by: str
) -> int:
    """Release the rejected partitions of a symbol within ``[start, end)`` and return how many there were.

    Args:
        lake_root: Folder or address of the lake.
        symbol: The vendor's spelling.
        interval: Interval of the bars.
        start: First instant.
        end: First instant after the range.
        reason: Why these bars may be used; goes on record.
        released_by: Who says so; goes on record.
    """
    lake = Lake(lake_root)
    return verdicts.release(lake, symbol, interval, start, end, reason=reason, released_by=released_by)


@task(name="write-data-docs", cache_policy=NO_CACHE)
def write_data_docs(lake_root: str, interval: str, out_dir: str) -> str:
    """Build Data Docs and the quarantine page in `out_dir`, replacing what is there, and return the first page's path.

    Args:
        lake_root: Folder or address of the lake.
        interval: Interval of the bars.
        out_dir: Folder of the site.
    """
    from tasks.quality.docs import build_docs  # imports Great Expectations: 8 seconds

    return str(build_docs(Lake(lake_root), interval, Path(out_dir)))
