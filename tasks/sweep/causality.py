"""A strategy's signals under the leak prover, before any sweep trusts them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from lake.store import Lake
from tasks.features.proofs import prove_once
from tasks.features.prover import Proof, Subject, most_warm_up
from tasks.strategies.registry import get
from tasks.strategies.strategy import Params, Strategy, bar_matrix
from tasks.sweep.grid import plan_grid
from tasks.sweep.request import SweepRequest

#: A leak shows on any bars; more than these only take longer (100,000 bars stay under two seconds a set).
PROOF_BARS = 20_000


def signals(strategy: Strategy, params: Params, bars: pl.DataFrame) -> pl.DataFrame:
    """Return ``timestamp``, ``entries`` and ``exits`` of one parameter set, each known when its bar closes."""
    matrix = bar_matrix(bars)
    rows = np.vstack([item.compute(matrix) for item in strategy.indicators(params)])
    entries, exits = np.empty(bars.height, np.bool_), np.empty(bars.height, np.bool_)
    strategy.signal(matrix, rows, np.arange(len(rows)), params.vector(), entries, exits)
    return bars.select("timestamp", entries=pl.Series(entries), exits=pl.Series(exits))


def strategy_subject(strategy: Strategy, params: Params, interval: str, bars: int) -> Subject:
    """Return a strategy with one parameter set as the prover takes it.

    After its warm-up its signals must be those of a later start, unless they depend on its own earlier ones.

    Args:
        strategy: What to try.
        params: One set of its parameters.
        interval: Of the bars.
        bars: How many there will be: where they are too few to warm up twice, that is not tried.
    """
    warm_up, most = strategy.warm_up(params), most_warm_up(bars)
    return Subject(
        f"{strategy.name} {params.model_dump_json()}",
        lambda bars: signals(strategy, params, bars),
        min(warm_up, most),
        interval=interval,
        converges=warm_up <= most and not strategy.path_dependent,
    )


def prove_strategy(
    lake: Lake, strategy: Strategy, params: Mapping[str, object], bars: pl.DataFrame, interval: str
) -> Proof:
    """Prove that a strategy's signals do not see the future, or look up that it was done for this code and these bars.

    Raises:
        LookAheadError: A signal saw the future; the message names it with the bar and both values.
    """
    subject = strategy_subject(strategy, strategy.params(**params), interval, bars.height)
    return prove_once(lake, subject, bars, code=[Path(inspect.getfile(strategy.params))])


def prove_grid(lake: Lake, request: SweepRequest, bars: pl.DataFrame) -> list[Proof]:
    """Prove the strategy of a sweep on the newest of its bars, with the sets of the shortest and the longest memory.

    A leak is in the code, and the code is the same for every set; the two extremes take every path that windows open.

    Raises:
        LookAheadError: A signal saw the future.
    """
    strategy = get(request.strategy)
    newest = bars.tail(PROOF_BARS)
    sets = sorted(plan_grid(strategy, request.grid).sets, key=strategy.warm_up)
    extremes = {json.dumps(params.model_dump()): params.model_dump() for params in (sets[0], sets[-1])}
    return [prove_strategy(lake, strategy, params, newest, request.interval) for params in extremes.values()]
