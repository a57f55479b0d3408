"""Portfolios in the lake; `portfolio/runs` is written last, so that a run that can be seen is whole."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import polars as pl

from lake.store import Lake
from tasks.errors import InputError
from tasks.sweep.portfolio import result
from tasks.sweep.portfolio.result import PortfolioResult

RUNS, WEIGHTS, EQUITY = (f"portfolio/{name}" for name in ("runs", "weights", "equity"))
_TEXT = ("run_id", "kind", "interval", "verdict", "passed")
_JSON = ("members", "labels", "methods", "metrics", "record")


def save(lake: Lake, finished: PortfolioResult, finished_at: datetime) -> None:
    """Write a run; writing it again replaces it."""
    row = {name: getattr(finished, name) for name in _TEXT} | {"finished_at": finished_at}
    row |= {name: json.dumps(getattr(finished, name)) for name in _JSON}
    tables = {WEIGHTS: finished.weights, EQUITY: finished.equity, RUNS: pl.DataFrame([row])}
    for table, frame in tables.items():
        rows = frame.with_columns(run_id=pl.lit(finished.run_id))
        lake.replace(table, rows, where={"run_id": finished.run_id}, partition_by=("run_id",))


def load(lake: Lake, run_id: str) -> PortfolioResult:
    """Read a run.

    Raises:
        InputError: No such run in the lake.
    """
    found = _read(lake, RUNS, run_id) if lake.exists(RUNS) else pl.DataFrame()
    if not found.height:
        raise InputError(
            f"portfolio: expected a run in {RUNS}, found none named {run_id!r}; `portfolio/runs` lists them"
        )
    row = found.row(0, named=True)
    parsed: dict[str, Any] = {name: json.loads(row[name]) for name in _JSON}
    order = {name: place for place, name in enumerate(parsed["methods"])}
    by_method = pl.col("method").replace_strict(order, return_dtype=pl.Int64)
    members = pl.col("member").replace_strict({name: k for k, name in enumerate(parsed["members"])})
    return PortfolioResult(
        **{name: row[name] for name in _TEXT},
        members=tuple(parsed["members"]),
        labels=tuple(parsed["labels"]),
        methods=tuple(parsed["methods"]),
        metrics=parsed["metrics"],
        record=parsed["record"],
        weights=_read(lake, WEIGHTS, run_id).sort(by_method, "timestamp", members).select(list(result.WEIGHTS)),
        equity=_read(lake, EQUITY, run_id).sort(by_method, "timestamp").select(list(result.EQUITY)),
    )


def _read(lake: Lake, table: str, run_id: str) -> pl.DataFrame:
    return lake.scan(table).filter(pl.col("run_id") == run_id).collect()
