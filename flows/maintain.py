"""Compaction, retention and health of the lake, and which recorded runs a correction touched."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import polars as pl
from pydantic import Field

from flows.adhoc import flow
from flows.settings import load
from flows.steps import log, publish_table
from lake.store import Lake


@dataclass(frozen=True)
class Maintained:
    """What maintenance did.

    Attributes:
        files_before: Files that tables consisted of.
        files_after: The same after compaction.
        deleted_bytes: Bytes freed.
        touched_runs: Recorded runs that read a bar which was corrected since.
    """

    files_before: int
    files_after: int
    deleted_bytes: int
    touched_runs: list[str]


@flow(name="maintain")
async def maintain(
    keep_days: Annotated[int, Field(ge=0, le=3650, description="Days that any moment stays readable.")] = 7,
) -> Maintained:
    """Compact every table to one file a partition and delete files nobody can ask for; say how healthy the lake is.

    Args:
        keep_days: How far back any moment stays readable. Versions that recorded runs read are kept for ever.

    Returns:
        Files before and after, bytes freed, and the recorded runs whose input was corrected since.
    """
    from lake import impact, maintenance  # deltalake's maintenance loads only here

    lake = Lake(load().lake_root)
    done = await asyncio.to_thread(maintenance.maintain, lake, keep=timedelta(days=keep_days))
    health = await asyncio.to_thread(maintenance.health, lake)
    touched = await asyncio.to_thread(impact.impact, lake)
    await publish_table("lake-health", _rows(health), "Every table of the lake")
    await publish_table("lake-impact", _rows(touched), "Runs that read a bar which was corrected since")
    if touched.height:
        log.warning("runs.touched", runs=touched["run_id"].to_list())
    return Maintained(
        sum(one.files_before for one in done),
        sum(one.files_after for one in done),
        sum(one.deleted_bytes for one in done),
        touched["run_id"].to_list(),
    )


def _rows(frame: pl.DataFrame) -> list[dict[str, object]]:
    """Return rows that an artifact can hold: times as text."""
    return frame.with_columns(pl.col(pl.Datetime).dt.to_string("%Y-%m-%d %H:%M")).to_dicts()


if __name__ == "__main__":
    from flows.cli import main

    main()
