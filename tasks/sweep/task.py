"""The sweep room's door: one Prefect task sweeps one symbol with one strategy, from the lake to the lake."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.calendar import TradingCalendar
from lake.store import Lake
from lake.timeline import interval as interval_named
from tasks.errors import InputError
from tasks.sweep.costs import Costs
from tasks.sweep.search import Search
from tasks.sweep.windows import WindowPlan

if TYPE_CHECKING:
    import polars as pl

    from tasks.sweep.result import SweepResult

#: Calendar of a market that never closes; see `lake.calendar.TradingCalendar.parse` for the others.
ALWAYS_OPEN = "always_open"


@dataclass(frozen=True, slots=True)
class SweepSummary:
    """What a finished sweep tells its flow; the lake has the rest under `run_id`."""

    run_id: str
    symbol: str
    interval: str
    strategy: str
    params: dict[str, Any]
    bars: int
    combinations: int
    lifetime_trials: int
    sharpe: float
    total_return: float
    benchmark_return: float
    max_drawdown: float
    trades: int
    verdict: str
    passed: bool
    seconds: float


@task(name="sweep-symbol", task_run_name="sweep {symbol} {strategy}", cache_policy=NO_CACHE)
def sweep_symbol(
    lake_root: str,
    symbol: str,
    interval: str,
    strategy: str,
    grid: Mapping[str, Sequence[Any]] | None = None,
    costs: Costs | None = None,
    windows: WindowPlan | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    calendar: str = str(TradingCalendar.always_open()),
    periods_per_year: float | None = None,
    code_version: str = "",
    seed: int = 0,
    chunk: int | None = None,
    lake_version: int | None = None,
    search: Search | None = None,
) -> SweepSummary:
    """Sweep the bars of one symbol, store the result and count its trials; return the headline.

    Args:
        lake_root: Root of the lake.
        symbol: In the vendor's spelling.
        interval: Length of a bar.
        strategy: Name in `tasks.strategies`.
        grid: Values a parameter; None for the strategy's own grid.
        costs: None for the defaults, which are not zero.
        windows: None for four rolling windows over the later half.
        start: First open, None for all there is.
        end: Exclusive last open, None for all there is.
        calendar: ``always_open``, or ``exchange:XNYS`` and the like, whose nights and holidays are no holes.
        periods_per_year: None for what the calendar gives.
        code_version: For the record.
        seed: For the record and everything random.
        chunk: Most combinations a chunk holds; a killed sweep repeats at most one. None for the engine's own.
        lake_version: Version of the bars to read, as an earlier run recorded it; None for the newest.
        search: How the grid's values are searched: all of them (None), at random, or by Optuna.
    """
    from tasks.sweep.fused import CHUNK
    from tasks.sweep.store import (  # these load numba and vectorbt: seconds
        LakeCheckpoints,
        read_trials,
        save,
        write_trials,
    )
    from tasks.sweep.sweep import run_sweep, trials_of

    began, lake = time.monotonic(), Lake(lake_root)
    version = lake.bars_version(interval) if lake_version is None else lake_version
    bars = lake.read_bars(symbol, interval, start, end, version=version)
    if not bars.height:
        raise InputError(f"sweep: expected bars of {symbol} {interval} in the lake, found none; run the backfill flow")
    result = run_sweep(
        bars,
        symbol=symbol,
        interval=interval,
        strategy=strategy,
        grid=grid,
        costs=costs,
        windows=windows,
        expected=_expected(calendar, interval, bars),
        periods_per_year=periods_per_year,
        earlier=read_trials(lake, symbol, interval, strategy),
        checkpoints=LakeCheckpoints(lake),
        chunk=chunk or CHUNK,
        search=search,
        seed=seed,
        provenance={
            "code_version": code_version,
            "lake_version": version,
            "calendar": calendar,
            "start": bars["timestamp"][0].isoformat(),  # with the version, what `lake.impact` and a rerun need
            "end": interval_named(interval).next(bars["timestamp"][-1]).isoformat(),
        },
    )
    write_trials(lake, symbol, interval, strategy, trials_of(result), datetime.now(UTC))
    save(lake, result)
    LakeCheckpoints(lake).drop(result.record["key"])
    return _summarise(result, time.monotonic() - began)


def _expected(calendar: str, interval: str, bars: pl.DataFrame) -> pl.Series | None:
    """Return the opens the calendar promises over the span of the bars, None for a market that never closes."""
    trading = TradingCalendar.parse(calendar)
    if trading.never_closes:
        return None
    first, last = bars["timestamp"][0], bars["timestamp"][-1]
    return trading.expected_opens(interval, first, interval_named(interval).next(last))


def _summarise(result: SweepResult, seconds: float) -> SweepSummary:
    metrics = result.metrics
    return SweepSummary(
        run_id=result.run_id,
        symbol=result.symbol,
        interval=result.interval,
        strategy=result.strategy,
        params=result.params,
        bars=result.record["bars"],
        combinations=len(result.grid),
        lifetime_trials=result.record["n_trials"],
        sharpe=metrics["sharpe"],
        total_return=metrics["total_return"],
        benchmark_return=metrics["benchmark_return"],
        max_drawdown=metrics["max_drawdown"],
        trades=int(metrics["trades"]),
        verdict=result.verdict,
        passed=result.verdict_passed,
        seconds=seconds,
    )
