"""Portfolios in the lake; `portfolio/runs` is written last, so that a run that can be seen is whole."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import polars as pl

from lake.store import Lake
from tasks.sweep.portfolio import result
from tasks.sweep.portfolio.result import PortfolioResult
from tasks.sweep.runs import read_run, run_rows, write_run

RUNS, WEIGHTS, EQUITY = (f"portfolio/{name}" for name in ("runs", "weights", "equity"))
_TEXT = ("run_id", "kind", "interval", "verdict", "passed")
_JSON = ("members", "labels", "methods", "metrics", "record")


def save(lake: Lake, finished: PortfolioResult, finished_at: datetime) -> None:
    """Write a run; writing it again replaces it."""
    row = {name: getattr(finished, name) for name in _TEXT} | {"finished_at": finished_at}
    row |= {name: json.dumps(getattr(finished, name)) for name in _JSON}
    tables = {WEIGHTS: finished.weights, EQUITY: finished.equity, RUNS: pl.DataFrame([row])}
    tables = {WEIGHTS: finished.weights, EQUITY: finished.equity, RUNS: pl.DataFrame([row])}
    write_run(lake, finished.run_id, tables)


def load(lake: Lake, run_id: str) -> PortfolioResult:
    """Read a run.

    Raises:
        InputError: No such run in the lake.
    """
    row = read_run(lake, RUNS, run_id)
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
        weights=run_rows(lake, WEIGHTS, run_id).sort(by_method, "timestamp", members).select(list(result.WEIGHTS)),
        equity=run_rows(lake, EQUITY, run_id).sort(by_method, "timestamp").select(list(result.EQUITY)),
    )
