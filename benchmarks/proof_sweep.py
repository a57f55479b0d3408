"""Proof: a sweep killed at ten random points resumes to an identical result table. Run by ``make proof-sweep``.

Each point is a new lake: a process starts the sweep, dies by SIGKILL at a random moment of its work, another process
runs it again to its end. Judged: every stored table, and the lifetime trial count.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.killed_sweep import write_bars
from benchmarks.runner import Table
from lake.store import Lake

TABLES = ("sweeps/grid", "sweeps/windows", "sweeps/equity", "sweeps/trades", "sweeps/runs", "sweeps/trials")
LIMIT_S = 120


def start(root: Path) -> subprocess.Popen[str]:
    """Start the sweep and return once it has begun working."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.killed_sweep", str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "begun"
    return process


def outcome(root: Path) -> list[pl.DataFrame]:
    """Return every stored table in a fixed order of rows, without the times at which things were done."""
    lake = Lake(root)
    frames = [lake.scan(table).drop("made_at", "finished_at", strict=False).collect() for table in TABLES]
    return [frame.select(sorted(frame.columns)).sort(sorted(frame.columns)) for frame in frames]


def finish(root: Path) -> float:
    """Run the sweep to its end and return the seconds it worked."""
    process = start(root)
    began = time.monotonic()
    assert process.wait(LIMIT_S) == 0
    return time.monotonic() - began


def kept_chunks(root: Path) -> int:
    """Return how many chunks a dead sweep left behind."""
    lake = Lake(root)
    return lake.scan("sweeps/chunks").select(pl.len()).collect().item() if lake.exists("sweeps/chunks") else 0


def main(points: int = 10, seed: int = 1) -> None:
    """Kill as often as asked and print the table."""
    rng = random.Random(seed)  # noqa: S311 - which moments, not a secret
    died, resumed, equal = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        write_bars(whole)
        seconds = finish(whole)
        expected = outcome(whole)
        for number in range(points):
            root = Path(folder) / str(number)
            write_bars(root)
            process = start(root)
            time.sleep(rng.uniform(0.0, 0.8 * seconds))
            process.kill()
            died += process.wait(LIMIT_S) != 0
            resumed += kept_chunks(root) > 0
            finish(root)
            equal += all(a.equals(b, null_equal=True) for a, b in zip(outcome(root), expected, strict=True))
            equal -= kept_chunks(root) > 0
    table = Table(f"{points} killed sweeps of 1,600 combinations in 16 chunks ({seconds:.1f} s each)")
    table.figure("killed before their end", died, at_least=0.7 * points)
    table.figure("found chunks to resume from", resumed, at_least=1)
    table.figure("equal to the uninterrupted run, nothing left over", equal, at_least=points)
    table.finish()


if __name__ == "__main__":
    main(points=int(sys.argv[1]) if len(sys.argv) > 1 else 10)
