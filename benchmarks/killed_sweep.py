"""One sweep through the door, for proofs that kill it: ``python -m benchmarks.killed_sweep LAKE``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from lake.schema import as_bars
from lake.store import Lake
from tasks.sweep.task import sweep_symbol

ROWS = 6_000
GRID = {"fast": list(range(2, 42)), "slow": list(range(45, 165, 3))}


def write_bars(root: str | Path) -> None:
    """Write the bars that the sweep reads: a seeded random walk."""
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, ROWS)))
    opened = np.concatenate([[100.0], close[:-1]])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=k) for k in range(ROWS)],
            "open": opened,
            "high": np.maximum(opened, close) * 1.0002,
            "low": np.minimum(opened, close) * 0.9998,
            "close": close,
            "volume": rng.integers(1, 100, ROWS).astype(float),
        }
    )
    end = start + timedelta(minutes=ROWS)
    Lake(root).write_bars(as_bars(frame), symbol="WALK", interval="1m", start=start, end=end)


def main() -> None:
    """Sweep in chunks of 100 combinations, so that a kill falls between or into many of them."""
    import tasks.sweep.sweep  # noqa: F401  (its libraries load before the clock starts)

    print("begun", flush=True)
    print(sweep_symbol.fn(sys.argv[1], "WALK", "1m", "ma_crossover", GRID, chunk=100).run_id, flush=True)


if __name__ == "__main__":
    main()
