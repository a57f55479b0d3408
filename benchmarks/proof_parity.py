"""Proof: a replayed day trades as the sweep does, and injected faults are named. Run by ``make proof-parity``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.progress import track

from benchmarks.parity_faults import FAULTS, attribute, clean_case, clean_differences
from benchmarks.runner import Table
from flows.parity_compare import compare_engines
from flows.parity_paths import event_fills

BARS = 1_440


def main(seeds: int = 20) -> None:
    """Replay clean days in each direction, then spoil as many days as asked in each way, and print the table."""
    table = Table(f"{BARS:,} minute bars a clean day, {BARS // 4} a spoiled period, {seeds} seeds a fault")
    with tempfile.TemporaryDirectory() as folder:
        for direction in ("long", "short", "both"):
            case = clean_case(BARS, 1, direction, fast=5, slow=20)
            found, fills, _ = clean_differences(case, Path(folder) / direction)
            found += compare_engines(case, fills, event_fills(case))
            table.figure(f"clean day, {direction}: differences", len(found), at_most=0, detail=f"{len(fills)} fills")
        for cause in FAULTS:
            done = [
                attribute(cause, BARS // 4, seed, Path(folder) / cause / str(seed))
                for seed in track(range(seeds), cause.value)
            ]
            total, right = sum(one.own for one in done), sum(one.right for one in done)
            follow = sum(one.consequences for one in done)
            detail = f"{right} of {total}, {follow} more follow from them"
            table.figure(f"{cause}: named, share", right / total, at_least=0.95, detail=detail)
    table.finish()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
