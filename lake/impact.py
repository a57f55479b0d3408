"""Which recorded runs a correction touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from lake.revisions import revisions
from lake.schema import TIMESTAMP
from tasks.errors import DataError, InputError

if TYPE_CHECKING:
    from lake.store import Lake

SWEEPS, PORTFOLIOS = "sweeps/runs", "portfolio/runs"

#: What a run must say of its input. `start` and `end` bound the opens that it read, null where they do not.
RUNS: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "symbol": pl.String(),
    "interval": pl.String(),
    "start": TIMESTAMP,
    "end": TIMESTAMP,
    "lake_version": pl.Int64(),
}

IMPACT: dict[str, pl.DataType] = {
    **RUNS,
    "revised_bars": pl.Int64(),
    "late_bars": pl.Int64(),
    "first_seen_at": TIMESTAMP,
}

_INPUT = [name for name in RUNS if name != "run_id"]


def impact(lake: Lake) -> pl.DataFrame:
    """Return the recorded runs whose input was corrected since: bars that changed, and bars that came late.

    Sweeps and portfolios; a portfolio has a row for each member that was touched, and of the members that are sweeps
    themselves it takes their input for its own. A late bar lies in the range of the run, before the last bar that it
    read, and was not there then; what closed after the run is none. Costs two reads of timestamps for each input that
    runs share.

    Returns:
        Columns of `IMPACT`: the run, how many of the bars it read were corrected after its version, how many came late
        (null where its version can no longer be read), and when the first correction was seen (null where there is
        none but late bars).
    """
    runs = _inputs(lake).drop_nulls("lake_version")
    late = pl.DataFrame(_late(lake, runs), schema={**{name: RUNS[name] for name in _INPUT}, "late_bars": pl.Int64()})
    parts = [
        _touched(mine, revisions(lake, str(interval)))
        for (interval,), mine in runs.group_by("interval", maintain_order=True)
    ]
    revised = pl.concat([pl.DataFrame(schema={**RUNS, "revised_bars": pl.Int64(), "first_seen_at": TIMESTAMP}), *parts])
    found = runs.join(late, on=_INPUT, nulls_equal=True).join(revised, on=list(RUNS), how="left", nulls_equal=True)
    touched = found.with_columns(pl.col("revised_bars").fill_null(0)).filter(
        (pl.col("revised_bars") > 0) | (pl.col("late_bars") > 0)
    )
    return touched.select(list(IMPACT)).sort("run_id", "symbol")


def _inputs(lake: Lake) -> pl.DataFrame:
    """Return what each recorded sweep and portfolio read, one row a symbol, in the columns of `RUNS`."""
    empty = pl.DataFrame(schema=RUNS)
    sweeps = recorded_runs(lake, SWEEPS) if lake.exists(SWEEPS) else empty
    if not lake.exists(PORTFOLIOS):
        return sweeps
    told = lake.scan(PORTFOLIOS).select("run_id", "kind", "members").collect()
    members = told.with_columns(pl.col("members").str.json_decode(pl.List(pl.String))).explode("members")
    of_symbols = members.filter(kind="symbols").select("run_id", symbol="members")
    of_sweeps = members.filter(kind="runs").select(portfolio="run_id", run_id="members")
    return pl.concat(
        [
            sweeps,
            recorded_runs(lake, PORTFOLIOS).drop("symbol").join(of_symbols, on="run_id").select(list(RUNS)),
            of_sweeps.join(sweeps, on="run_id").drop("run_id").rename({"portfolio": "run_id"}).select(list(RUNS)),
        ]
    ).unique(maintain_order=True)


def recorded_runs(lake: Lake, table: str) -> pl.DataFrame:
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


def _late(lake: Lake, runs: pl.DataFrame) -> Iterator[dict[str, object]]:
    """Yield each input that runs share with the number of bars that came late."""
    for row in runs.select(_INPUT).unique(maintain_order=True).iter_rows(named=True):
        try:
            yield {**row, "late_bars": _late_bars(lake, **row)}
        except (InputError, DataError):  # its version was deleted: the table was made anew, or files were lost
            yield {**row, "late_bars": None}


def _late_bars(
    lake: Lake, symbol: str, interval: str, start: datetime | None, end: datetime | None, lake_version: int
) -> int:
    told = {"columns": ["timestamp"]}
    known = lake.read_bars(symbol, interval, start, end, version=lake_version, **told)["timestamp"]
    if known.is_empty():
        return 0
    now = lake.read_bars(symbol, interval, start or known[0], end, **told)["timestamp"]
    return int((now <= known[-1]).sum()) - known.len()


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
        .cast({"revised_bars": pl.Int64})
    )
