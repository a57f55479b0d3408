"""Check partitions of the lake with Great Expectations: verdicts, quarantine, Data Docs, releases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from flows.adhoc import flow
from flows.events import record_asset, tell_partitions_rejected
from flows.parameters import DEFAULT_START, EndDay, IntervalName, StartDay, Symbol, Symbols, span
from flows.settings import Settings, load
from flows.steps import Progress, key_of, log, publish_file, publish_table, step
from flows.vendor import calendar_of, market_of
from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import partitions, utc
from tasks.errors import InputError
from tasks.quality.expected import listings
from tasks.quality.plan import Market
from tasks.quality.task import check_lake, check_partition, release_partitions, write_data_docs
from tasks.quality.thresholds import for_market
from tasks.quality.verdicts import Verdict
from tasks.quality.whole_lake import LakeReceipt
from tasks.report.task import write_quality_calendar


@flow(name="quality", flow_run_name="quality {interval}")
async def quality(
    symbols: Symbols,
    interval: IntervalName = "1m",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
) -> list[Verdict]:
    """Judge every partition of some symbols by the full suite; a rejected one is quarantined with its bad rows.

    Args:
        symbols: Symbols in the vendor's spelling.
        interval: Length of a bar.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.

    Returns:
        One verdict a partition: pass, warn (shown in the report) or reject (research refuses it).
    """
    settings = load()
    first, last = span(interval, start, end, now=settings.market_now)
    lake = Lake(settings.lake_root)
    records = Ledger(lake).records(interval)
    _check_known(symbols, interval, _known(lake, interval, records))
    listed = listings(records)
    parts = [
        (symbol, *part)
        for symbol in symbols
        for part in partitions(interval, max(first, listed.get(symbol, first)), last)
    ]
    verdicts = []
    async with Progress("quality-progress", len(parts), f"{interval} partitions of {len(symbols)} symbols") as progress:
        for symbol, begin, stop in parts:
            verdicts.append(await _check(settings, symbol, interval, begin, stop))
            await progress.advance()
    await publish_table("quality", [_row(verdict) for verdict in verdicts], f"Verdicts on {interval} partitions")
    for verdict in verdicts:
        if verdict.status != "pass":
            log.warning("partition.judged", verdict=str(verdict))
    await _tell(settings, interval, [str(verdict) for verdict in verdicts if verdict.refused], len(verdicts))
    return verdicts


@flow(name="quality-lake", flow_run_name="quality of the lake, {interval}")
async def quality_lake(
    interval: IntervalName = "1m",
    symbols: list[Symbol] | None = None,
    start: StartDay = DEFAULT_START,
    docs: bool = True,
) -> LakeReceipt:
    """Judge everything in the lake that changed since its last verdict, in one streaming pass.

    Args:
        interval: Length of a bar.
        symbols: Symbols to judge; empty for all that the lake has.
        start: First UTC day of the calendar of days; it shows all days where no bar is that new.
        docs: Build Data Docs, the quarantine page and the calendar of days, linked from this run.

    Returns:
        How many partitions there are, how many were judged now, and which are rejected.
    """
    settings = load()
    first, last = span(interval, start, None, now=settings.market_now)
    lake = Lake(settings.lake_root)
    known = _known(lake, interval, Ledger(lake).records(interval))
    _check_known(symbols or [], interval, known)
    names = symbols or known
    markets = {name: Market(calendar_of(name), for_market(market_of(name), interval)) for name in names}
    receipt = await step(
        check_lake, settings.lake_root, interval, symbols=symbols, markets=markets, as_of=settings.market_now
    )
    await publish_table("quality-rejected", [{"partition": text} for text in receipt.rejected], _headline(receipt))
    await _tell(settings, interval, receipt.rejected, receipt.judged)
    if docs and lake.symbols(interval):
        await _publish_docs(settings, interval, _shown_from(lake, interval, first), last)
    return receipt


@flow(name="release", flow_run_name="release {symbol} {interval}")
async def release(
    symbol: Symbol,
    reason: Annotated[str, Field(min_length=3, description="Why these bars may be used; goes on record.")],
    released_by: Annotated[str, Field(min_length=1, description="Who says so; goes on record.")],
    start: StartDay,
    end: Annotated[date, Field(description="First UTC day no longer released.")],
    interval: IntervalName = "1m",
) -> int:
    """Release rejected partitions from quarantine: exactly their present content, with a reason and a name on record.

    Args:
        symbol: Symbol whose partitions are released.
        reason: Why these bars may be used; goes on record.
        released_by: Who says so; goes on record.
        start: First UTC day.
        end: First UTC day no longer released.
        interval: Length of a bar.

    Returns:
        How many partitions were released.
    """
    if start >= end:
        raise InputError(f"release: expected start before end, found {start} to {end}")
    return await step(release_partitions, load().lake_root, symbol, interval, utc(start), utc(end), reason, released_by)


def _known(lake: Lake, interval: str, records: pl.DataFrame) -> list[str]:
    """Return the symbols that the lake has bars of, or that a vendor was asked for."""
    return sorted({*lake.symbols(interval), *records["symbol"]})


def _check_known(symbols: Sequence[str], interval: str, known: Sequence[str]) -> None:
    """Refuse symbols that nobody ever fetched: a slip of the pen would stay on record as rejected."""
    unknown = sorted({*symbols} - {*known})
    if unknown:
        raise InputError(
            f"quality: expected symbols whose {interval} bars were fetched, found none of {' '.join(unknown)}; "
            "run a backfill or an import, or correct the name"
        )


async def _check(settings: Settings, symbol: str, interval: str, start: datetime, end: datetime) -> Verdict:
    return await step(
        check_partition,
        settings.lake_root,
        symbol,
        interval,
        start,
        end,
        calendar=calendar_of(symbol),
        thresholds=for_market(market_of(symbol), interval),
        as_of=settings.market_now,
    )


async def _tell(settings: Settings, interval: str, rejected: Sequence[str], judged: int) -> None:
    """Tell Prefect what was judged and what is refused."""
    facts = {"judged": judged, "rejected": len(rejected)}
    await record_asset(settings.lake_root, "quality/verdicts", [f"klines/{interval}"], **facts)
    tell_partitions_rejected(interval, rejected)


def _shown_from(lake: Lake, interval: str, first: datetime) -> datetime:
    """Return where a calendar of days begins: at `first`, or with the oldest bar where the newest is older."""
    snapshot = lake.snapshot(f"klines/{interval}")
    if snapshot is None:
        return first
    oldest, newest = snapshot.files.select(pl.min("first"), pl.max("last")).row(0)
    return first if newest is None or newest >= first else oldest


async def _publish_docs(settings: Settings, interval: str, first: datetime, last: datetime) -> None:
    folder = settings.report_dir.absolute()
    docs = await step(write_data_docs, settings.lake_root, interval, str(folder / "data-docs" / interval))
    days = await step(write_quality_calendar, settings.lake_root, interval, first, last, str(folder))
    held = str(Path(docs).parent / "quarantine.html")
    await publish_file(key_of("data-docs", interval), docs, "Great Expectations' own pages", "Data Docs")
    await publish_file(key_of("quarantine", interval), held, "Rejected bars, and how to release them", "Quarantine")
    await publish_file(key_of("quality-calendar", interval), days, "Quality day by day", "Calendar")


def _headline(receipt: LakeReceipt) -> str:
    return (
        f"{receipt.judged:,} of {receipt.partitions:,} {receipt.interval} partitions judged: "
        f"{receipt.passed:,} passed, {receipt.warned:,} warned, {len(receipt.rejected):,} rejected"
    )


def _row(verdict: Verdict) -> dict[str, Any]:
    return {
        "symbol": verdict.symbol,
        "from": f"{verdict.start:%Y-%m-%d}",
        "to": f"{verdict.end:%Y-%m-%d}",
        "verdict": verdict.status,
        "released": verdict.released,
        "bars": verdict.rows,
        "expected": verdict.expected_rows,
        "findings": ", ".join(f"{finding.rule} ({finding.rows})" for finding in verdict.findings),
    }


if __name__ == "__main__":
    from flows.cli import main

    main()
