"""Speed, memory and agreement of the sweep engines: `make bench-sweep`."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks import event_sides as events
from benchmarks import sweep_sides as sides
from benchmarks.dask_sweep import measure
from benchmarks.runner import Table
from tasks.sweep.market import SweepBars

TEN_YEARS = 1_051_200


def in_process(side: str) -> tuple[float, float]:
    """Return seconds and peak MiB of one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sweep_sides", side]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return told["seconds"], told["peak_mib"]


def small(table: Table) -> None:
    """1,225 pairs over 10,000 bars against VectorBT's usual and best patterns."""
    grid, bars = sides.small_grid(), sides.walk(10_000)
    found, best = sides.fused_grid(grid, bars), sides.vectorbt_chunks(grid, bars)
    worst = float(np.nanmax(np.abs(found - best) / np.maximum(1, np.abs(best))))
    table.figure("largest difference to VectorBT of any figure of 1,225", worst, at_most=1e-9)
    usual, ours = (lambda: sides.vectorbt_usual(bars)), (lambda: sides.fused_grid(grid, bars))
    table.compare("1,225 × 10,000 warm, VectorBT's usual pattern", ours, usual, bar=100, repeats=3)
    table.compare(
        "the same, its simulator called directly, in chunks",
        ours,
        lambda: sides.vectorbt_chunks(grid, bars),
        bar=5,
        repeats=5,
    )
    table.compare(
        "VectorBT chunked against all columns at once",
        lambda: sides.vectorbt_chunks(grid, bars),
        lambda: sides.vectorbt_chunks(grid, bars, 10**9),
        bar=1,
        repeats=3,
    )


def cold(table: Table) -> None:
    """The same in fresh processes: imports, compilation, memory."""
    in_process("fused")
    runs = {side: [in_process(side) for _ in range(2)] for side in ("fused", "usual", "fused-certified")}
    seconds = {side: statistics.median(run[0] for run in told) for side, told in runs.items()}
    peak = {side: statistics.median(run[1] for run in told) for side, told in runs.items()}
    detail = f"{seconds['usual']:.1f} s against {seconds['fused']:.1f} s"
    table.figure(
        "cold process to ranked table", seconds["usual"] / seconds["fused"], at_least=10, unit="×", detail=detail
    )
    certified = seconds["fused-certified"]
    detail = f"{seconds['usual']:.1f} s against {certified:.1f} s"
    table.figure("cold process to certified table", seconds["usual"] / certified, at_least=3, unit="×", detail=detail)
    detail = f"{peak['usual']:,.0f} against {peak['fused']:,.0f} MiB"
    table.figure("peak memory before certification", peak["usual"] / peak["fused"], at_least=8, unit="×", detail=detail)


def large(table: Table) -> None:
    """10,000 pairs over 100,000 bars against the kernel written by hand for this one strategy."""
    grid, bars = sides.large_grid(), sides.walk(100_000)
    one = sides.walk(2_000)
    assert np.allclose(sides.by_hand(grid, one), sides.fused_grid(grid, one), rtol=1e-9, atol=1e-9, equal_nan=True)
    table.compare(
        "10,000 × 100,000, a kernel fused by hand, one thread each",
        lambda: sides.fused_grid(grid, bars, threads=1),
        lambda: sides.by_hand(grid, bars),
        bar=1 / 3,
        repeats=2,
        warm_up=0,
    )
    table.compare(
        "the same, two threads against one",
        lambda: sides.fused_grid(grid, bars, threads=2),
        lambda: sides.fused_grid(grid, bars, threads=1),
        bar=1.6,
        repeats=2,
        warm_up=0,
    )
    seconds, peak = in_process("large")
    table.figure("10,000 × 100,000, peak memory", peak, at_most=500, unit=" MiB", detail=f"cold {seconds:.1f} s")


def event_driven(table: Table) -> None:
    """One strategy over ten years of 5-minute bars against engines that walk bar by bar."""
    bars = sides.walk(TEN_YEARS)
    trades = int(sides.any_strategy(bars)[3])
    detail = f"{trades:,} trades, indicator included"
    table.figure(
        "ten years of 5-minute bars, any strategy",
        median_s(lambda: sides.any_strategy(bars), 5),
        at_most=30,
        unit=" s",
        detail=detail,
    )
    grid = sides.pressure_grid()
    rows = grid.rows(bars.matrix)
    ours = lambda: sides.any_strategy(bars, rows)  # noqa: E731  # every side below gets the indicator
    speed = TEN_YEARS / median_s(ours, 9)
    part = signals(bars, 20_000)
    for name, follow, bar, count in (
        ("backtrader", events.run_backtrader, 1_000, 10_000),
        ("backtesting.py", events.run_backtesting, 200, 20_000),
    ):
        seconds = median_s(lambda follow=follow, count=count: follow(part.iloc[:count]), 2)
        detail = f"{count / seconds:,.0f} bars a second against {speed:,.0f}"
        table.figure(f"times {name}'s bars a second", speed * seconds / count, at_least=bar, unit="×", detail=detail)
    whole = signals(bars, TEN_YEARS)
    from_signals = events.prepare_from_signals(whole, rows[0], *grid.vectors[0, 1:])
    claim = "VectorBT's from_signals, both from the indicator to the result"
    table.compare(claim, ours, from_signals, bar=4, repeats=15)
    by_order = events.prepare_from_order_func(whole)
    table.figure("from_order_func, warm", median_s(by_order, 5), at_most=0.5, unit=" s")
    flags = whole["entries"].to_numpy(), whole["exits"].to_numpy()
    ordered = events.prepare_orders(bars, *flags, sides.CHEAP.model_copy(update={"min_fee": 1e-6}))
    table.figure("the same with our order function, to all figures", median_s(ordered, 3), unit=" s")
    del whole
    gc.collect()
    table.figure(
        "any strategy, in a fresh process", in_process("one")[0], at_most=5, unit=" s", detail="warm caches on disk"
    )


def signals(bars: SweepBars, rows: int):
    """Return the first bars with the strategy's signals as a pandas frame."""
    grid = sides.pressure_grid()
    entries, exits = np.empty((2, len(bars)), dtype=bool)
    grid.strategy.signal(bars.matrix, grid.rows(bars.matrix), grid.use[0], grid.vectors[0], entries, exits)
    return events.frame_of(bars, entries, exits).iloc[:rows]


def median_s(call: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def workers(table: Table) -> None:
    """The large sweep by two Dask workers against one process, one thread each."""
    alone, shared, same = measure()
    table.figure("figures of two Dask workers equal to one process's", same, at_least=1)
    detail = f"{alone:.1f} s against {shared:.1f} s"
    table.figure("10,000 × 100,000, two Dask workers", alone / shared, at_least=1.6, unit="×", detail=detail)


PARTS = {part.__name__: part for part in (event_driven, small, large, cold, workers)}


def main(names: list[str]) -> None:
    """Measure everything, or the named parts, and print the table."""
    table = Table("Sweeps: moving-average crossover, and the article's strategy event by event")
    for name in names or PARTS:
        PARTS[name](table)
        gc.collect()
    table.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
