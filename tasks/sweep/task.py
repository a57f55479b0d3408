"""The sweep room's door: sweeps of one symbol with one strategy, and portfolios, from the lake to the lake."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.calendar import TradingCalendar
from lake.store import Lake
from lake.timeline import interval as interval_named
from tasks.sweep.costs import Costs
from tasks.sweep.portfolio.request import PortfolioRequest
from tasks.sweep.request import SweepRequest
from tasks.sweep.search import Search
from tasks.sweep.windows import WindowPlan

if TYPE_CHECKING:
    import polars as pl

    from tasks.sweep.question import Question
    from tasks.sweep.result import SweepResult
    from tasks.sweep.standings import Standings


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


@dataclass(frozen=True, slots=True)
class PortfolioSummary:
    """What a finished portfolio tells its flow; the lake has the rest under `run_id`."""

    run_id: str
    members: int
    decisions: int
    bars: int
    verdict: str
    passed: bool
    methods: dict[str, dict[str, float]]
    seconds: float


@dataclass(frozen=True, slots=True)
class ChunkReceipt:
    """What working on one chunk came to; `fresh` is False where it was done already."""

    first: int
    stop: int
    fresh: bool
    standings: Standings
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
    heard: Callable[[Standings], None] | None = None,
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
        heard: Told of every chunk as it is done, or found done already, with where it stands in sample.

    Raises:
        InputError: Nothing to sweep; see `tasks.sweep.sweep.run_sweep`.
        LookAheadError: The strategy was caught reading the future; nothing was swept.
    """
    from tasks.sweep.causality import prove_grid
    from tasks.sweep.standings import standings_of
    from tasks.sweep.store import LakeCheckpoints, read_trials, save, write_trials  # numba and vectorbt: seconds
    from tasks.sweep.sweep import answer, trials_of

    began, lake = time.monotonic(), Lake(lake_root)
    version = lake.bars_version(interval) if lake_version is None else lake_version
    request = SweepRequest(
        symbol=symbol,
        interval=interval,
        strategy=strategy,
        grid=grid,
        costs=costs or Costs(),
        windows=windows or WindowPlan(),
        start=start,
        end=end,
        calendar=calendar,
        periods_per_year=periods_per_year,
        search=search or Search(),
        seed=seed,
        lake_version=version,
        chunk=chunk,
    )
    bars, question, span = _read(lake, request)
    prove_grid(lake, request, bars)
    checkpoints = LakeCheckpoints(lake)
    result = answer(
        question,
        earlier=read_trials(lake, symbol, interval, strategy),
        checkpoints=checkpoints,
        heard=None if heard is None else lambda part, figures: heard(standings_of(question, part, figures)),
        chunk=chunk or _default_chunk(),
        seed=seed,
        provenance={
            "code_version": code_version,
            "lake_version": version,
            "calendar": calendar,
            "search": request.search.model_dump(exclude={"storage"}),
            **span,  # with the version, what `lake.impact` and a rerun need
        },
    )
    finished_at = datetime.now(UTC)
    write_trials(lake, symbol, interval, strategy, trials_of(result), finished_at)
    save(lake, result, finished_at)
    checkpoints.drop(question.key)
    return _summarise(result, time.monotonic() - began)


@task(name="plan-sweep", task_run_name="plan sweep {request.symbol} {request.strategy}", cache_policy=NO_CACHE)
def plan_sweep(lake_root: str, request: SweepRequest) -> list[tuple[int, int]]:
    """Return the chunks of a large sweep, first and stop combination each, for `sweep_chunk` to be mapped over."""
    from tasks.sweep.ask import chunks_of

    _, question, _ = _read(Lake(lake_root), request)
    return [(part.start, part.stop) for part in chunks_of(question, request)]


@task(name="sweep-chunk", task_run_name="sweep {request.symbol} from {first}", cache_policy=NO_CACHE)
def sweep_chunk(lake_root: str, request: SweepRequest, first: int, stop: int) -> ChunkReceipt:
    """Work on one chunk on whatever machine this is: read the bars from the lake, keep the figures in the lake.

    `sweep_symbol` with the same request then finds every chunk done, and certifies and judges. One thread, so that as
    many workers as cores can be used.
    """
    from tasks.sweep.ask import work_on
    from tasks.sweep.standings import standings_of
    from tasks.sweep.store import LakeCheckpoints

    began, lake = time.monotonic(), Lake(lake_root)
    _, question, _ = _read(lake, request)
    part = slice(first, stop)
    figures, fresh = work_on(question, part, LakeCheckpoints(lake), threads=1)
    return ChunkReceipt(first, stop, fresh, standings_of(question, part, figures), time.monotonic() - began)


@task(name="build-portfolio", task_run_name="portfolio {request.rebalance}", cache_policy=NO_CACHE)
def build_portfolio(lake_root: str, request: PortfolioRequest, code_version: str = "") -> PortfolioSummary:
    """Weigh and rebalance symbols or finished sweeps by every method asked for, and store the result.

    Args:
        lake_root: Root of the lake.
        request: Members, methods, rules and costs; without a lake version the newest is read and recorded.
        code_version: For the record.

    Raises:
        InputError: A member is not in the lake, or too few bars for a single decision.
    """
    from tasks.sweep.portfolio.panel import member_labels, read_panel
    from tasks.sweep.portfolio.store import save
    from tasks.sweep.portfolio.study import study  # vectorbt and skfolio: seconds

    began, lake = time.monotonic(), Lake(lake_root)
    if request.symbols and request.lake_version is None:
        request = request.model_copy(update={"lake_version": lake.bars_version(request.interval)})
    panel = read_panel(lake, request)  # first: it names the member that is not there
    labels, told = member_labels(lake, request), {"code_version": code_version}
    result = study(panel, request, labels=labels, provenance=told)
    save(lake, result, datetime.now(UTC))
    return PortfolioSummary(
        run_id=result.run_id,
        members=len(result.members),
        decisions=result.record["decisions"],
        bars=result.record["bars"],
        verdict=result.verdict,
        passed=result.passed,
        methods=result.metrics,
        seconds=time.monotonic() - began,
    )


def _read(lake: Lake, request: SweepRequest) -> tuple[pl.DataFrame, Question, dict[str, str]]:
    """Return the bars of a request, the question they make, and their span as text."""
    from tasks.sweep.ask import ask_about, read_bars

    bars = read_bars(lake, request)
    end = interval_named(request.interval).next(bars["timestamp"][-1])
    return bars, ask_about(bars, request), {"start": bars["timestamp"][0].isoformat(), "end": end.isoformat()}


def _default_chunk() -> int:
    from tasks.sweep.fused import CHUNK

    return CHUNK


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
