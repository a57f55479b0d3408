"""Which recorded runs a correction touched."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from lake.revisions import revisions
from lake.schema import TIMESTAMP

if TYPE_CHECKING:
    from lake.store import Lake

#: What a run must say of its input. `start` and `end` bound the opens that it read, null where they do not.
RUNS: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "symbol": pl.String(),
    "interval": pl.String(),
    "start": TIMESTAMP,
    "end": TIMESTAMP,
    "lake_version": pl.Int64(),
}

IMPACT: dict[str, pl.DataType] = {**RUNS, "revised_bars": pl.Int64(), "first_seen_at": TIMESTAMP}


def impact(lake: Lake, table: str = "sweeps/runs") -> pl.DataFrame:
    """Return the recorded runs that read a bar which has been corrected since.

    Returns:
        Columns of `IMPACT`: the run, how many of the bars it read were corrected after its version, and when the first
        of these corrections was seen.
    """
    if not lake.exists(table):
        return pl.DataFrame(schema=IMPACT)
    runs = recorded_runs(lake, table).drop_nulls("lake_version")
    parts = [
        _touched(mine, revisions(lake, str(interval)))
        for (interval,), mine in runs.group_by("interval", maintain_order=True)
    ]
    return pl.concat([pl.DataFrame(schema=IMPACT), *parts]).sort("run_id")


def recorded_runs(lake: Lake, table: str = "sweeps/runs") -> pl.DataFrame:
    """Return the runs in the columns of `RUNS`; what has no column is looked up in the JSON column `record`."""
    rows = lake.scan(table).collect()
    told = [json.loads(text) for text in rows["record"]] if "record" in rows.columns else [{}] * rows.height
    columns = {
        name: rows[name] if name in rows.columns else pl.Series([_value(entry.get(name), kind) for entry in told])
        for name, kind in RUNS.items()
    }
    return pl.DataFrame(columns).cast(RUNS)  # type: ignore[arg-type]


def _value(told: object, kind: pl.DataType) -> object:
    return datetime.fromisoformat(told) if isinstance(told, str) and kind == TIMESTAMP else told


def _touched(runs: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    bars = changes.group_by("symbol", "timestamp", "version").agg(pl.min("seen_at"))
    read = (pl.col("timestamp") >= pl.col("start")).fill_null(value=True) & (
        pl.col("timestamp") < pl.col("end")
    ).fill_null(value=True)
    return (
        runs.join(bars, on="symbol")
        .filter(read & (pl.col("version") > pl.col("lake_version")))
        .group_by(list(RUNS))
        .agg(pl.col("timestamp").n_unique().alias("revised_bars"), pl.min("seen_at").alias("first_seen_at"))
        .cast(IMPACT)  # type: ignore[arg-type]
    )
