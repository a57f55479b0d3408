"""Sweeps in the lake: a finished run, row for row, and every trial ever made.

A run is written table by table and `sweeps/runs` last, so that a run that can be seen is whole. Parameters differ
between strategies and are kept as one JSON column, so that all sweeps share their tables.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from lake.schema import TIMESTAMP
from lake.store import Lake
from tasks.errors import InputError
from tasks.sweep import result
from tasks.sweep.result import SweepResult
from tasks.sweep.runs import read_run, run_rows, write_run

RUNS, GRID, WINDOWS, EQUITY, TRADES = (f"sweeps/{name}" for name in ("runs", "grid", "windows", "equity", "trades"))
TRIALS, CHUNKS = "sweeps/trials", "sweeps/chunks"
_JSON = ("params", "metrics", "verdict_details", "record")
_TEXT = ("run_id", "symbol", "interval", "strategy", "verdict")


def save(lake: Lake, finished: SweepResult, finished_at: datetime | None = None) -> None:
    """Write a run; writing it again replaces it.

    Args:
        lake: Where to.
        finished: The run.
        finished_at: When it was, UTC; null in `sweeps/runs` where nobody says, as of runs before the column was there.
    """
    names = list(finished.param_names)
    tables = {
        GRID: _pack(finished.grid, names),
        WINDOWS: _pack(finished.windows, names),
        EQUITY: finished.equity,
        TRADES: finished.trades,
        RUNS: _run_row(finished).with_columns(finished_at=pl.lit(finished_at, TIMESTAMP)),
    }
    write_run(lake, finished.run_id, tables)


def load(lake: Lake, run_id: str) -> SweepResult:
    """Read a run.

    Raises:
        InputError: No such run in the lake.
    """
    row = read_run(lake, RUNS, run_id)
    values: dict[str, Any] = {name: json.loads(row[name]) for name in _JSON}
    return SweepResult(
        **{name: row[name] for name in _TEXT},
        **values,
        verdict_passed=row["verdict_passed"],
        grid=_unpack(run_rows(lake, GRID, run_id).sort("row")),
        windows=_unpack(run_rows(lake, WINDOWS, run_id).sort("row")),
        equity=run_rows(lake, EQUITY, run_id).sort("sample", "timestamp").select(list(result.EQUITY)),
        trades=run_rows(lake, TRADES, run_id).sort("sample", "entry_timestamp").select(list(result.TRADES)),
        extras={name: pl.read_json(io.StringIO(text)) for name, text in json.loads(row["extras"]).items()},
    )


def newest_run(lake: Lake) -> str:
    """Return the run that finished last.

    Raises:
        InputError: The lake has no run.
    """
    runs = (
        lake.scan(RUNS).sort("finished_at", nulls_last=False).select("run_id").collect() if lake.exists(RUNS) else None
    )
    if runs is None or not runs.height:
        raise InputError(f"sweep: expected a run in {RUNS}, found none; `klinehouse sweep` or `research` makes one")
    return runs["run_id"][-1]


def read_trials(lake: Lake, symbol: str, interval: str, strategy: str) -> dict[str, float]:
    """Return every trial ever made on this data and strategy: its key and its per-period in-sample Sharpe."""
    if not lake.exists(TRIALS):
        return {}
    mine = (pl.col("symbol") == symbol) & (pl.col("interval") == interval) & (pl.col("strategy") == strategy)
    rows = lake.scan(TRIALS).filter(mine).select("trial", "sharpe").collect()
    return dict(zip(rows["trial"].to_list(), rows["sharpe"].to_list(), strict=True))


def write_trials(
    lake: Lake, symbol: str, interval: str, strategy: str, trials: Mapping[str, float], made_at: datetime
) -> int:
    """Add the trials the lake does not know yet and return how many: a trial repeated is still one trial."""
    known = read_trials(lake, symbol, interval, strategy)
    fresh = {key: sharpe for key, sharpe in trials.items() if key not in known}
    if fresh:
        rows = pl.DataFrame({"trial": list(fresh), "sharpe": list(fresh.values())}).with_columns(
            symbol=pl.lit(symbol), interval=pl.lit(interval), strategy=pl.lit(strategy), made_at=pl.lit(made_at)
        )
        lake.append(TRIALS, rows, partition_by=("symbol",))
    return len(fresh)


class LakeCheckpoints:
    """Finished chunks of unfinished sweeps: one commit a chunk, so that a killed sweep loses only those under way.

    Args:
        lake: Where they are kept.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def read(self, key: str) -> dict[int, np.ndarray]:
        """Return the chunks kept for a question: first combination → (combinations, segments, figures)."""
        if not self._lake.exists(CHUNKS):
            return {}
        rows = self._lake.scan(CHUNKS).filter(pl.col("question") == key).collect()
        return {row["first"]: _figures(row) for row in rows.iter_rows(named=True)}

    def keep(self, key: str, first: int, figures: np.ndarray) -> None:
        """Keep one chunk; keeping it twice keeps it once."""
        row = {"question": key, "first": first, "shape": json.dumps(figures.shape), "figures": figures.tobytes()}
        where = {"question": key, "first": first}
        self._lake.replace(CHUNKS, pl.DataFrame([row]), where=where, partition_by=("question",))

    def drop(self, key: str) -> None:
        """Forget the chunks of a question whose result is stored."""
        if self._lake.exists(CHUNKS):
            nothing = self._lake.scan(CHUNKS).head(0).collect()
            self._lake.replace(CHUNKS, nothing, where={"question": key})


def _figures(row: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(row["figures"], dtype=np.float64).reshape(json.loads(row["shape"]))


def _run_row(finished: SweepResult) -> pl.DataFrame:
    row: dict[str, Any] = {name: getattr(finished, name) for name in (*_TEXT, "verdict_passed")}
    row |= {name: json.dumps(getattr(finished, name), default=str) for name in _JSON}
    row["extras"] = json.dumps({name: frame.write_json() for name, frame in finished.extras.items()})
    return pl.DataFrame([row])


def _pack(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Fold the parameter columns into one JSON column and number the rows."""
    texts = [json.dumps(row) for row in frame.select(names).iter_rows(named=True)]
    return frame.drop(names).with_columns(params=pl.Series(texts, dtype=pl.String)).with_row_index("row")


def _unpack(frame: pl.DataFrame) -> pl.DataFrame:
    """Unfold the JSON column back into parameter columns, before the figures."""
    params = pl.DataFrame([json.loads(text) for text in frame["params"]])
    figures = frame.drop("params", "row", "run_id")
    first = [name for name in figures.columns if not name.startswith(("is_", "oos_"))]
    return pl.concat([figures.select(first), params, figures.drop(first)], how="horizontal")
