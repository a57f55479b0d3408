"""Check partitions of the lake with Great Expectations: verdicts, quarantine."""

from __future__ import annotations

import json
from datetime import datetime

from flows.adhoc import flow
from flows.parameters import DEFAULT_START, EndDay, IntervalName, StartDay, Symbols, span
from flows.settings import Settings, load
from flows.steps import Progress, log, publish_table, step
from flows.vendor import calendar_of, market_of
from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import partitions
from tasks.quality.expected import listings
from tasks.quality.task import check_partition
from tasks.quality.thresholds import for_market
from tasks.quality.verdicts import Verdict


@flow(name="quality", flow_run_name="quality {interval}")
async def quality(
    symbols: Symbols,
    interval: IntervalName = "1m",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
) -> list[Verdict]:
    """Judge every partition of some symbols; a rejected one is quarantined with its bad rows.

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
    listed = listings(Ledger(Lake(settings.lake_root)).records(interval))
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
    return verdicts


async def _check(settings: Settings, symbol: str, interval: str, start: datetime, end: datetime) -> Verdict:
    thresholds = for_market(market_of(symbol), interval)
    return await step(
        check_partition,
        settings.lake_root,
        symbol,
        interval,
        start,
        end,
        calendar=calendar_of(symbol),
        thresholds=thresholds,
        as_of=settings.market_now,
    )


def _row(verdict: Verdict) -> dict[str, object]:
    return {
        "symbol": verdict.symbol,
        "from": f"{verdict.start:%Y-%m-%d}",
        "to": f"{verdict.end:%Y-%m-%d}",
        "verdict": verdict.status,
        "bars": verdict.rows,
        "expected": verdict.expected_rows,
        "findings": json.dumps({finding.rule: finding.rows for finding in verdict.findings}),
    }


if __name__ == "__main__":
    from flows.cli import main

    main()
