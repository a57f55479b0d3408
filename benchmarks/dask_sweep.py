"""One large sweep by two Dask workers and by one process, for `make bench-sweep`: both work chunks through the lake."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from distributed import Client, LocalCluster

from benchmarks.sweep_sides import walk
from lake.schema import as_bars
from lake.store import Lake
from tasks.strategies.strategy import COLUMNS
from tasks.sweep.request import SweepRequest
from tasks.sweep.task import plan_sweep, sweep_chunk


def write_walk(root: str, rows: int) -> None:
    """Write the bars of the benchmark's walk."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(dict(zip(COLUMNS, walk(rows).matrix, strict=True)))
    stamps = pl.Series("timestamp", [start + timedelta(minutes=k) for k in range(rows)])
    end = start + timedelta(minutes=rows)
    Lake(root).write_bars(as_bars(frame.with_columns(stamps)), symbol="W", interval="1m", start=start, end=end)


def work(root: str, request: SweepRequest, part: tuple[int, int]) -> float:
    """Work on one chunk; return the seconds."""
    return sweep_chunk.fn(root, request, *part).seconds


def kept(root: str) -> bytes:
    """Return every kept figure in the order of the grid."""
    return b"".join(Lake(root).scan("sweeps/chunks").sort("first").collect()["figures"].to_list())


def measure(rows: int = 100_000, windows: int = 100, chunk: int = 1_250) -> tuple[float, float, bool]:
    """Return the seconds of one process and of two workers (both warm), and whether their figures are identical."""
    grid = {"fast": list(range(2, 2 + windows)), "slow": list(range(110, 110 + windows))}
    request = SweepRequest(symbol="W", interval="1m", strategy="ma_crossover", grid=grid, chunk=chunk)
    warm = request.model_copy(update={"grid": {"fast": [2, 3], "slow": [9, 10]}})
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        for root in (one, two):
            write_walk(root, rows)
            work(root, warm, (0, 4))
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            client.run(work, two, warm.model_copy(update={"seed": 1}), (0, 4))
            began = time.perf_counter()
            parts = plan_sweep.fn(two, request)
            client.gather([client.submit(work, two, request, part) for part in parts])
            shared = time.perf_counter() - began
        began = time.perf_counter()
        for part in plan_sweep.fn(one, request):
            work(one, request, part)
        alone = time.perf_counter() - began
        same = np.array_equal(np.frombuffer(kept(one)), np.frombuffer(kept(two)), equal_nan=True)
    return alone, shared, same
