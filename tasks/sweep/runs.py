"""A finished run in the lake: its rows in several tables under one name, written, replaced and read whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from lake.store import Lake
from tasks.errors import InputError


def write_run(lake: Lake, run_id: str, tables: Mapping[str, pl.DataFrame]) -> None:
    """Replace a run's rows, table by table; the last table is the one in which the run can be seen once it is whole."""
    for table, frame in tables.items():
        rows = frame.with_columns(run_id=pl.lit(run_id))
        lake.replace(table, rows, where={"run_id": run_id}, partition_by=("run_id",))


def read_run(lake: Lake, table: str, run_id: str) -> dict[str, Any]:
    """Return a run's one row of the table that lists runs.

    Raises:
        InputError: No such run in the lake.
    """
    known = lake.exists(table)
    found = run_rows(lake, table, run_id) if known else pl.DataFrame()
    if not found.height:
        listing = f"`klinehouse sql 'FROM {table.replace('/', '_')}'` lists them"
        raise InputError(
            f"run: expected one in {table}, found none named {run_id!r}; {listing if known else 'there are none yet'}"
        )
    return found.row(0, named=True)


def run_rows(lake: Lake, table: str, run_id: str) -> pl.DataFrame:
    """Return a run's rows of a table, in no order."""
    return lake.scan(table).filter(pl.col("run_id") == run_id).collect()
