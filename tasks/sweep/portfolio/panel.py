"""The members' prices side by side on one grid of time, with holes where a member has no bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from lake.store import Lake
from tasks.errors import InputError
from tasks.sweep.portfolio.request import PortfolioRequest
from tasks.sweep.store import RUNS, load

_YEAR_US = 365 * 86_400 * 1_000_000
_COLUMNS = ("fill", "close", "range")


@dataclass(frozen=True)
class Panel:
    """All arrays are (rows, members) and NaN where the member has no bar.

    Attributes:
        names: Members, in the order of the columns.
        timestamps: datetime64[us] opens of the bars that any member has.
        fills: What an order on this row is filled at, before slippage: a bar's open. An equity curve has no open, so
            it is filled a whole bar after the decision, at its close.
        closes: Prices after the row.
        ranges: Share of the close that lies between the row's high and low; 0 for equity curves.
    """

    names: tuple[str, ...]
    timestamps: np.ndarray
    fills: np.ndarray
    closes: np.ndarray
    ranges: np.ndarray

    @cached_property
    def valued(self) -> np.ndarray:
        """What a unit is worth after each row: the last close known. NaN before the first."""
        rows = np.where(np.isfinite(self.closes), np.arange(len(self.closes))[:, None], 0)
        return np.take_along_axis(self.closes, np.maximum.accumulate(rows, axis=0), axis=0)

    @property
    def periods_per_year(self) -> float:
        """Rows a year of 365 days, as they are."""
        span = int((self.timestamps[-1] - self.timestamps[0]).astype(np.int64))
        return (len(self.timestamps) - 1) * _YEAR_US / span


def read_panel(lake: Lake, request: PortfolioRequest) -> Panel:
    """Read the members of a request from the lake.

    Raises:
        InputError: A member has nothing in the range, or runs are of different intervals.
    """
    frames = _bars(lake, request) if request.symbols else _curves(lake, request)
    return join_members(frames)


def member_labels(lake: Lake, request: PortfolioRequest) -> dict[str, str]:
    """Return what each run is called on a page: symbol and strategy, and the end of its name where two are alike."""
    if not request.runs:
        return {}
    wanted = pl.col("run_id").is_in(request.runs)
    rows = lake.scan(RUNS).filter(wanted).select("run_id", "symbol", "strategy").collect().iter_rows()
    plain = {run_id: f"{symbol} {strategy}" for run_id, symbol, strategy in rows}
    alike = Counter(plain.values())
    return {run_id: f"{label} ({run_id[-6:]})" if alike[label] > 1 else label for run_id, label in plain.items()}


def join_members(frames: Mapping[str, pl.DataFrame]) -> Panel:
    """Lay members side by side.

    Args:
        frames: Name → ``timestamp, fill, close, range``, sorted.

    Raises:
        InputError: Prices that are not positive and finite, or fewer than two rows in all.
    """
    stamps = {name: frame["timestamp"].dt.replace_time_zone(None).to_numpy() for name, frame in frames.items()}
    grid = np.unique(np.concatenate(list(stamps.values())))
    if len(grid) < 2:
        raise InputError(f"portfolio: expected at least 2 bars, found {len(grid)}")
    cube = np.full((len(_COLUMNS), len(grid), len(frames)), np.nan)
    for column, (name, frame) in enumerate(frames.items()):
        values = frame.select(_COLUMNS).to_numpy().T
        if not (np.isfinite(values).all() and (values[:2] > 0).all()):
            raise InputError(f"portfolio: expected positive finite prices of {name}, found others; check its quality")
        cube[:, np.searchsorted(grid, stamps[name]), column] = values
    return Panel(tuple(frames), grid, *cube)


def _bars(lake: Lake, request: PortfolioRequest) -> dict[str, pl.DataFrame]:
    found = {}
    for symbol in request.symbols:
        bars = lake.read_bars(symbol, request.interval, request.start, request.end, version=request.lake_version)
        if not bars.height:
            raise InputError(
                f"portfolio: expected bars of {symbol} {request.interval} in the lake, found none; run the backfill"
            )
        reach = (pl.col("high") - pl.col("low")) / pl.col("close")
        found[symbol] = bars.select("timestamp", "close", fill="open", range=reach)
    return found


def _curves(lake: Lake, request: PortfolioRequest) -> dict[str, pl.DataFrame]:
    found = {}
    for run_id in request.runs:
        run = load(lake, run_id)
        if run.interval != request.interval:
            raise InputError(f"portfolio: expected runs of {request.interval} bars, found {run_id} of {run.interval}")
        inside = pl.lit(True)
        if request.start is not None:
            inside &= pl.col("timestamp") >= request.start
        if request.end is not None:
            inside &= pl.col("timestamp") < request.end
        curve = run.equity.filter((pl.col("sample") == "out") & inside).sort("timestamp")
        if not curve.height:
            raise InputError(f"portfolio: expected out-of-sample equity of {run_id} in the range, found none")
        found[run_id] = curve.select("timestamp", fill="equity", close="equity", range=pl.lit(0.0))
    return found
