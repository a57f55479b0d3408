"""The exchange room's door: bring a month of one symbol into the lake, as a Prefect task or without Prefect."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from tasks.errors import TransientError
from tasks.exchange.backfill import backfill_range
from tasks.exchange.receipt import BackfillReceipt, Progress
from tasks.exchange.source import SourceSettings


async def is_transient(task_object: object, run: object, state: State[BackfillReceipt]) -> bool:
    """Return True where time may cure the failure; every other error fails the task at once."""
    return isinstance(await state.aresult(raise_on_failure=False), TransientError)


@task(
    name="backfill_month",
    task_run_name="backfill {symbol} {interval} {start:%Y-%m}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient,
    persist_result=False,
)
async def backfill_month(
    lake_root: str,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    source: SourceSettings,
    calendar: str = "always_open",
    refresh: bool = False,
    revisit: timedelta | None = None,
    progress: Progress | None = None,
) -> BackfillReceipt:
    """Bring the bars of ``[start, end)`` into the lake; pages are coroutines inside.

    Args:
        lake_root: Where the lake is.
        symbol: In the vendor's spelling.
        interval: Our spelling.
        start: First open.
        end: Exclusive; a month or less.
        source: Which vendor, with which key, how fast.
        calendar: When the market trades, as `lake.calendar.TradingCalendar.parse` reads it.
        refresh: Ask for bars that are there too, so that the vendor's corrections arrive.
        revisit: The same for the bars of so long before the present.
        progress: Called after every page with what was done so far.
    """
    return await backfill_range(
        lake_root,
        symbol,
        interval,
        start,
        end,
        source,
        calendar=calendar,
        refresh=refresh,
        revisit=revisit,
        progress=progress,
    )
