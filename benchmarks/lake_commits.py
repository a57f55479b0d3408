"""Commit latency of a month's upsert with ten commits in the log, and with a thousand.

The two are measured in turn on two tables that differ only in the length of their log.

    python -m benchmarks.lake_commits          # 10 against 200 commits; bars do not apply
    python -m benchmarks.lake_commits --full   # 10 against 1,000
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl

from benchmarks.lake_bars import START, make_bars
from benchmarks.runner import Table
from lake.store import Lake

MONTH = 31 * 1440
PAIRS = 30


class Writer:
    """Writes a month of bars over and over, a new month each time, so that each commit costs the same rows."""

    def __init__(self, root: Path, bars: pl.DataFrame) -> None:
        self.lake = Lake(root)
        self._bars = bars
        self._months: Iterator[int] = itertools.count()

    def grow(self, commits: int) -> None:
        """Lengthen the log by small commits."""
        row = self._bars.head(1)
        for _ in range(commits):
            self._write(row)

    def measured_s(self) -> float:
        """Return the seconds of one commit of a whole month."""
        began = time.perf_counter()
        self._write(self._bars)
        return time.perf_counter() - began

    def _write(self, bars: pl.DataFrame) -> None:
        shift = timedelta(days=31 * next(self._months))
        moved = bars.with_columns(pl.col("timestamp") + shift)
        end = START + shift + timedelta(days=31)
        self.lake.write_bars(moved, symbol="BTCUSDT", interval="1m", start=START + shift, end=end)


def main() -> None:
    """Grow two logs, measure them in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--full", action="store_true", help="1,000 commits; the bar applies")
    chosen = parser.parse_args()
    commits = 1000 if chosen.full else chosen.commits
    table = Table(f"Commits of {MONTH:,} rows", bars_apply=chosen.full)
    with tempfile.TemporaryDirectory() as folder:
        bars = make_bars(MONTH, seed=1)
        short, long = Writer(Path(folder, "short"), bars), Writer(Path(folder, "long"), bars)
        short.grow(10)
        long.grow(commits)
        pairs = [(short.measured_s(), long.measured_s()) for _ in range(PAIRS)]
    ratio = statistics.median(after / before for before, after in pairs)
    before, after = (statistics.median(side) * 1e3 for side in zip(*pairs, strict=True))
    table.figure(
        f"latency after {commits:,} commits against after 10",
        ratio,
        at_most=2.0,
        unit="×",
        detail=f"{before:.1f} ms → {after:.1f} ms, median of {PAIRS} pairs",
    )
    table.finish()


if __name__ == "__main__":
    main()
