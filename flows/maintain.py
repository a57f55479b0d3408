"""Compaction, retention and health of the lake, and which recorded runs a correction touched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import polars as pl
from pydantic import Field

from flows.adhoc import flow
from flows.parameters import IntervalName
from flows.settings import load
from flows.steps import log, publish_table
from flows.vendor import calendar_of
from lake.calendar import TradingCalendar
from lake.resample import resample
from lake.store import Lake
from lake.timeline import interval as interval_named


@dataclass(frozen=True)
class Maintained:
    """What maintenance did.

    Attributes:
        files_before: Files that tables consisted of.
        files_after: The same after compaction.
        deleted_bytes: Bytes freed.
        touched_runs: Recorded sweeps and portfolios that read a bar which was corrected since.
    """

    files_before: int
    files_after: int
    deleted_bytes: int
    touched_runs: list[str]


@flow(name="maintain", flow_run_name="maintain the lake")
async def maintain(
    keep_days: Annotated[int, Field(ge=0, le=3650, description="Days that any moment stays readable.")] = 7,
    resample_from: IntervalName = "1m",
    resample_to: list[IntervalName] | None = None,
) -> Maintained:
    """Compact every table to one file a partition and delete files nobody can ask for; say how healthy the lake is.

    Args:
        keep_days: How far back any moment stays readable. Versions that recorded runs read are kept for ever.
        resample_from: Length of the bars that longer ones are made from.
        resample_to: Lengths to make for every symbol, from complete and closed bars only; empty for none.

    Returns:
        Files before and after, bytes freed, and the recorded runs whose input was corrected since.
    """
    from lake import impact, maintenance  # deltalake's maintenance loads only here

    lake = Lake(load().lake_root)
    await _resample(lake, resample_from, resample_to or [])
    done = await asyncio.to_thread(maintenance.maintain, lake, keep=timedelta(days=keep_days))
    health = await asyncio.to_thread(maintenance.health, lake)
    touched = await asyncio.to_thread(impact.impact, lake)
    await publish_table("lake-health", _rows(health), "Every table of the lake")
    await publish_table("lake-impact", _rows(touched), "Runs that read a bar which was corrected since")
    names = touched["run_id"].unique(maintain_order=True).to_list()  # a portfolio has a row for each member
    if names:
        log.warning("runs.touched", runs=names)
    return Maintained(
        sum(one.files_before for one in done),
        sum(one.files_after for one in done),
        sum(one.deleted_bytes for one in done),
        names,
    )


async def _resample(lake: Lake, source: str, targets: Sequence[str]) -> None:
    symbols = lake.symbols(source) if targets else []
    rows = []
    for symbol in symbols:
        opens = pl.col("timestamp")
        first, last = lake.scan_bars(source, [symbol]).select(opens.min(), last=opens.max()).collect().row(0)
        end = interval_named(source).next(last)
        for target in targets:
            calendar = TradingCalendar.parse(calendar_of(symbol))
            done = await asyncio.to_thread(resample, lake, symbol, source, target, first, end, calendar=calendar)
            rows.append({"symbol": symbol, "interval": target, "new": done.rows_new, "revised": done.rows_revised})
    await publish_table("resampled", rows, f"Longer bars made from {source} bars")


def _rows(frame: pl.DataFrame) -> list[dict[str, object]]:
    """Return rows that an artifact can hold: times as text."""
    return frame.with_columns(pl.col(pl.Datetime).dt.to_string("%Y-%m-%d %H:%M")).to_dicts()


if __name__ == "__main__":
    from flows.cli import main

    main()
