"""Fetch what the lake lacks: plan by symbol and month, fetch, write, account for every absent bar."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from flows.adhoc import flow
from flows.events import record_asset, tell_bars_written
from flows.parameters import DEFAULT_START, AtOnce, EndDay, IntervalName, Source, StartDay, Symbols, span
from flows.settings import Settings, load
from flows.steps import Progress, gather, log, publish_table, step
from flows.vendor import calendar_of, open_vendor
from lake.timeline import partitions
from tasks.errors import ConfigurationError, KlinehouseError
from tasks.exchange.backfill import plan_backfill
from tasks.exchange.listing import record_listing
from tasks.exchange.source import SourceSettings
from tasks.exchange.task import backfill_month

RevisitDays = Annotated[int, Field(ge=0, le=366, description="Days before now to ask for again, for corrections.")]


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did for one symbol.

    Attributes:
        symbol: In the vendor's spelling.
        partitions: Partitions looked at.
        rows_new: Bars the lake did not have.
        rows_revised: Bars the vendor restated.
        missing_ranges: Ranges of bars that the vendor does not have although its market was open.
        requests: Requests sent.
        error: Why the symbol failed, empty where it did not; its other months were still fetched.
    """

    symbol: str
    partitions: int
    rows_new: int
    rows_revised: int
    missing_ranges: int
    requests: int
    error: str = ""


@flow(name="backfill", flow_run_name="backfill {interval}")
async def backfill(
    symbols: Symbols,
    interval: IntervalName = "1m",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
    source: Source = "tickdb",
    at_once: AtOnce = 4,
    refresh: bool = False,
    revisit_days: RevisitDays = 0,
    plan: bool = False,
) -> list[Backfilled]:
    """Fetch the bars of some symbols into the lake; what the lake has or the vendor lacks is not asked for again.

    Args:
        symbols: Symbols in the vendor's spelling, such as BTCUSDT or AAPL.US.
        interval: Length of a bar.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.
        source: tickdb, or an exchange of ccxt such as ccxt:binance.
        at_once: Partitions fetched at the same time; all share the key's rate budget.
        refresh: Ask for bars that are there too, so that the vendor's corrections arrive.
        revisit_days: The same for the bars of the last days alone; 0 for none.
        plan: Only show what would be asked for: requests, minutes at the key's rate, bytes.

    Returns:
        One line a symbol. A symbol that failed says so and does not stop the others.

    Raises:
        KlinehouseError: Every symbol failed, for the reason of the first.
    """
    settings = load()
    with open_vendor(settings, source, symbols) as vendor:
        first, last = _reachable(settings, *span(interval, start, end, now=vendor.clock()), vendor.clock())
        again = {"refresh": refresh, "revisit": timedelta(days=revisit_days)}
        await _show_plan(settings.lake_root, symbols, interval, first, last, vendor, again)
        if plan:
            return []
        parts = [(symbol, *part) for symbol in symbols for part in partitions(interval, first, last)]
        async with Progress("backfill-progress", len(parts), f"{interval} bars of {len(symbols)} symbols") as progress:
            results = await gather(
                [lambda p=part: _fetch(settings.lake_root, interval, p, vendor, again, progress) for part in parts],  # type: ignore[misc]
                at_once=at_once,
            )
        if settings.oldest(vendor.clock()) < first:
            for symbol in symbols:
                await record_listing(settings.lake_root, symbol, interval, first, last, vendor, calendar_of(symbol))
    done = [
        _summary(symbol, [result for part, result in zip(parts, results, strict=True) if part[0] == symbol])
        for symbol in symbols
    ]
    await publish_table(
        "backfill", [asdict(line) for line in done], f"{interval} bars fetched into {settings.lake_root}"
    )
    await _tell_written(settings.lake_root, source, interval, _written(parts, results), done)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures and all(line.error for line in done):
        raise failures[0]
    return done


def _reachable(settings: Settings, first: datetime, last: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return the part of the range that the plan's history reaches.

    Raises:
        ConfigurationError: It reaches none of it.
    """
    oldest = settings.oldest(now)
    if oldest >= last:
        raise ConfigurationError(
            f"backfill: expected a plan whose history reaches before {last:%Y-%m-%d}, found {settings.plan!r}, which "
            f"begins {oldest:%Y-%m-%d}; set KLINEHOUSE_PLAN, or KLINEHOUSE_HISTORY_DAYS where your key reaches further"
        )
    if oldest > first:
        log.warning("range.clipped", plan=settings.plan, asked=f"{first:%Y-%m-%d}", reached=f"{oldest:%Y-%m-%d}")
    return max(first, oldest), last


async def _show_plan(
    lake_root: str,
    symbols: list[str],
    interval: str,
    first: datetime,
    last: datetime,
    vendor: SourceSettings,
    again: dict[str, Any],
) -> None:
    """Say what will be asked for before the first request: on the terminal, and as an artifact."""
    calendars = [calendar_of(symbol) for symbol in symbols]
    planned = await asyncio.to_thread(
        plan_backfill, lake_root, symbols, interval, first, last, vendor, calendars=calendars, **again
    )
    print(planned.render(), file=sys.stderr)
    await publish_table("backfill-plan", planned.rows(), planned.summary())


def _written(parts: list[tuple[str, datetime, datetime]], results: list[Any]) -> list[tuple[datetime, datetime]]:
    """Return the months with new or restated bars: an hourly run writes to one of the many that it looks at."""
    return [
        (begin, stop)
        for (_, begin, stop), found in zip(parts, results, strict=True)
        if not isinstance(found, BaseException) and (found.rows_new or found.rows_revised)
    ]


async def _tell_written(
    lake_root: str, source: str, interval: str, months: list[tuple[datetime, datetime]], done: list[Backfilled]
) -> None:
    """Tell Prefect which bars are new, so that quality judges them; a run that wrote nothing tells nothing."""
    if not months:
        return
    written = [line for line in done if line.rows_new or line.rows_revised]
    new, revised = sum(line.rows_new for line in written), sum(line.rows_revised for line in written)
    facts = {"symbols": len(written), "rows_new": new, "rows_revised": revised}
    await record_asset(lake_root, f"klines/{interval}", [f"vendor://{source.replace(':', '/')}"], **facts)
    first, last = min(begin for begin, _ in months), max(stop for _, stop in months)
    tell_bars_written([line.symbol for line in written], interval, first, last)


async def _fetch(
    lake_root: str,
    interval: str,
    part: tuple[str, datetime, datetime],
    vendor: SourceSettings,
    again: dict[str, Any],
    progress: Progress,
) -> object:
    symbol, start, end = part
    calendar = calendar_of(symbol)
    try:
        return await step(
            backfill_month,
            lake_root,
            symbol,
            interval,
            start,
            end,
            vendor,
            calendar=calendar,
            **again,
            progress=lambda page: progress.note(f"{page.symbol} {page.rows:,} bars, {page.requests:,} requests"),
        )
    finally:
        await progress.advance()


def _summary(symbol: str, results: list) -> Backfilled:
    """Add up a symbol's months.

    Raises:
        BaseException: A month failed with anything but an error of ours: a defect, which no summary may hide.
    """
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, KlinehouseError):
            raise result
    errors = [result for result in results if isinstance(result, KlinehouseError)]
    receipts = [result for result in results if not isinstance(result, KlinehouseError)]
    if errors:
        log.error("symbol.failed", symbol=symbol, partitions=len(errors), error=str(errors[0]))
    return Backfilled(
        symbol,
        len(results),
        sum(receipt.rows_new for receipt in receipts),
        sum(receipt.rows_revised for receipt in receipts),
        sum(len(receipt.missing) for receipt in receipts),
        sum(receipt.requests for receipt in receipts),
        str(errors[0]) if errors else "",
    )


if __name__ == "__main__":
    from flows.cli import main

    main()
