"""From a request, or bars in memory, to a prepared question: the same one on every machine that asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from lake.calendar import TradingCalendar
from lake.store import Lake
from lake.timeline import interval as interval_named
from lake.timeline import utc
from tasks.errors import InputError
from tasks.strategies.registry import get
from tasks.sweep.costs import Costs
from tasks.sweep.fused import CHUNK, Checkpoints, plan_chunks, run_chunk
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import YEAR, prepare_bars
from tasks.sweep.propose import propose
from tasks.sweep.question import Question
from tasks.sweep.request import SweepRequest
from tasks.sweep.search import Search
from tasks.sweep.windows import WindowPlan, plan_windows


def ask(
    bars: pl.DataFrame,
    *,
    symbol: str,
    interval: str,
    strategy: str,
    grid: Mapping[str, Sequence[Any]] | None = None,
    costs: Costs | None = None,
    windows: WindowPlan | None = None,
    expected: pl.Series | None = None,
    periods_per_year: float | None = None,
    search: Search | None = None,
    seed: int = 0,
) -> Question:
    """Prepare bars, combinations and windows; the arguments are those of `tasks.sweep.sweep.run_sweep`.

    Raises:
        InputError: Bars, grid or windows that cannot be swept.
    """
    plan = windows or WindowPlan()
    prepared = prepare_bars(bars, interval, expected=expected, periods_per_year=periods_per_year).joined()
    rules = costs or Costs()
    if rules.volume_share is not None:
        prepared.check_volumes()
    planned = plan_grid(get(strategy), grid)
    cut = plan_windows(len(prepared), plan, warm_up=planned.warm_up)
    space = Question(symbol, interval, prepared, planned, cut, plan, rules)
    return replace(space, grid=planned.pick(propose(space, search or Search(), seed)))


def read_bars(lake: Lake, request: SweepRequest) -> pl.DataFrame:
    """Read the bars of a request.

    Raises:
        InputError: There are none.
    """
    wanted = request.symbol, request.interval, request.start, request.end
    bars = lake.read_bars(*wanted, version=request.lake_version)
    if not bars.height:
        raise InputError(
            f"sweep: expected bars of {request.symbol} {request.interval} in the lake, found none; run the backfill"
        )
    return bars


def ask_about(bars: pl.DataFrame, request: SweepRequest) -> Question:
    """Prepare a request's question over its bars."""
    told = ("symbol", "interval", "strategy", "grid", "costs", "windows", "search", "seed")
    named = {name: getattr(request, name) for name in told}
    return ask(bars, expected=_expected(bars, request), periods_per_year=_bars_a_year(bars, request), **named)


def chunks_of(question: Question, request: SweepRequest) -> list[slice]:
    """Return the chunks a question is worked in; the same wherever it is asked."""
    return list(plan_chunks(question.grid, len(question.bars), most=request.chunk or CHUNK))


def work_on(
    question: Question, part: slice, checkpoints: Checkpoints, *, threads: int | None = None
) -> tuple[np.ndarray, bool]:
    """Run one chunk and keep it; return its figures, and False where they were kept already."""
    kept = checkpoints.read(question.key).get(part.start)
    if kept is not None and len(kept) == part.stop - part.start:  # else kept under another plan
        return kept, False
    segments = np.array([[span.start, span.stop] for span in question.segments], dtype=np.int64)
    figures = run_chunk(question, part, segments, threads=threads)
    checkpoints.keep(question.key, part.start, figures)
    return figures, True


def _bars_a_year(bars: pl.DataFrame, request: SweepRequest) -> float | None:
    """Return the bars a year that a request asks for or its market has, None for a market that never closes.

    A market with sessions is looked at for a year at least: a day's or a week's bars begin and end with a session, and
    the nights left out around them would make a year of thousands of bars more.
    """
    trading = TradingCalendar.parse(request.calendar)
    if request.periods_per_year is not None or trading.first_day is None:
        return request.periods_per_year
    end = interval_named(request.interval).next(bars["timestamp"][-1])
    start = max(utc(trading.first_day), min(bars["timestamp"][0], end - YEAR))
    return len(trading.expected_opens(request.interval, start, end)) * (YEAR / (end - start))


def _expected(bars: pl.DataFrame, request: SweepRequest) -> pl.Series | None:
    """Return the opens the calendar promises over the span of the bars, None for a market that never closes."""
    trading = TradingCalendar.parse(request.calendar)
    if trading.never_closes:
        return None
    first, last = bars["timestamp"][0], bars["timestamp"][-1]
    return trading.expected_opens(request.interval, first, interval_named(request.interval).next(last))
