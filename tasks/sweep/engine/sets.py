"""The fused grid engine: signals and trades of many parameter sets, without a bars × combinations matrix.

Threads take parameter sets; each set has its strategy's compiled signal function (called by pointer, so that the loops
are compiled once for all strategies) write two flags a bar, and the simulator walks the bars once a segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tasks.sweep.costs import Costs
from tasks.sweep.engine.loops import run_batch
from tasks.sweep.engine.state import market_of, rules_of
from tasks.sweep.market import SweepBars

#: Columns of the figures: `result.FIGURES`, then the sums of returns and of squared returns.
WIDTH = 7
LOG_WIDTH = 8
#: Parameter sets a thread takes at once: enough work to forget the hand-over, little enough to share evenly.
_BATCH = 32


def run_sets(
    signal: Callable[..., None],
    bars: SweepBars,
    rows: np.ndarray,
    use: np.ndarray,
    vectors: np.ndarray,
    costs: Costs,
    segments: np.ndarray,
    *,
    threads: int | None = None,
) -> np.ndarray:
    """Trade every parameter set over every segment.

    Args:
        signal: The strategy's compiled signal function.
        bars: The sample.
        rows: Shared indicators, (indicators, bars).
        use: Which of them each set reads, (sets, indicators a set) int64.
        vectors: Parameters, (sets, parameters) float64.
        costs: What trading costs.
        segments: Row ranges ``[start, stop)``, (segments, 2) int64; each starts and ends flat.
        threads: None for one a core. The result does not depend on it.

    Returns:
        (sets, segments, `WIDTH`) float64; the Sharpe ratio annualised.
    """
    out, no_log = np.empty((len(use), len(segments), WIDTH)), np.empty((0, LOG_WIDTH))
    told = market_of(bars, costs), rules_of(costs)

    def batch(first: int) -> None:
        stop = min(first + _BATCH, len(use))
        run_batch(signal, rows, use, vectors, *told, segments, first, stop, out, no_log)

    starts = range(0, len(use), _BATCH)
    if threads == 1 or len(starts) < 2:
        list(map(batch, starts))
    else:
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            list(pool.map(batch, starts))
    out[:, :, 1] *= np.sqrt(bars.periods_per_year)
    return out


def trade_set(
    signal: Callable[..., None],
    bars: SweepBars,
    rows: np.ndarray,
    use: np.ndarray,
    vector: np.ndarray,
    costs: Costs,
    segment: slice,
) -> np.ndarray:
    """Return every trade of one parameter set, (trades, `LOG_WIDTH`): the first answer to "where do they differ".

    Columns: entry bar, exit bar, side (1 long, -1 short), quantity, entry price, exit price, fees, profit; bars count
    from the start of `segment`.
    """
    out, log = np.empty((1, 1, WIDTH)), np.empty((len(bars), LOG_WIDTH))
    span = np.array([[segment.start, segment.stop]])
    told = market_of(bars, costs), rules_of(costs)
    run_batch(signal, rows, use[None, :], vector[None, :], *told, span, 0, 1, out, log)
    trades = log[: int(out[0, 0, 3])].copy()
    trades[:, :2] -= segment.start
    return trades
