"""The room's door to Prefect: keys and limits in, small results out; Great Expectations loads only when a task runs."""

from __future__ import annotations

from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.store import Lake
from tasks.quality import partition
from tasks.quality.thresholds import Thresholds
from tasks.quality.verdicts import Verdict


@task(name="check-partition", task_run_name="check {symbol} {interval} {start:%Y-%m}", cache_policy=NO_CACHE)
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
