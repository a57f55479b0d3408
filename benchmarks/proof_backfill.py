"""Proof: a backfill killed at 50 random points ends like one that was not. Run by ``make proof-backfill``.

Each point is a new lake: a process starts the backfill, dies by SIGKILL at a random moment of its work, another process
runs it again to its end. Judged: content hash, number of bars, number of confirmed-empty bars, confirmations of each of
them, and how many requests were spent beyond those of an uninterrupted run. A run that ended before its moment came is
judged like the others: running it again must ask for nothing. Another moment is drawn in its place.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from rich.progress import track

from benchmarks.killed_backfill import CONCURRENCY, Job, Killed
from benchmarks.runner import Table

#: Moments drawn for one point at most.
_DRAWS = 3


def main(points: int = 50, days: int = 14, seed: int = 1) -> None:
    """Kill as often as asked and print the table."""
    rng = random.Random(seed)  # noqa: S311 - which moments, not a secret
    with tempfile.TemporaryDirectory() as folder, Job(Path(folder) / "whole", days=days) as job:
        numbers = track(range(points), "killing backfills")
        runs = [run for number in numbers for run in _killed(job, Path(folder) / str(number), rng)]
        whole, requests = job.outcome, job.requests
    table = Table(f"{points} killed backfills of {days} days of minutes ({whole[1]:,} bars, {requests} requests each)")
    died = sum(run.died for run in runs)
    table.figure("killed before their end", died, at_least=0.8 * points, detail=f"{len(runs) - died} more had ended")
    equal = sum(run.outcome == whole for run in runs)
    table.figure("equal to the uninterrupted run", equal, at_least=len(runs), detail="hash, bars, confirmed-empty bars")
    most = max(run.requests - requests for run in runs)
    table.figure("most pages asked for twice", most, at_most=CONCURRENCY, detail=f"{CONCURRENCY} are in flight at once")
    again = max((run.requests - requests for run in runs if not run.died), default=0)
    table.figure("requests of a run after one that had ended", again, at_most=0)
    table.finish()


def _killed(job: Job, folder: Path, rng: random.Random) -> list[Killed]:
    """Return the runs of one point: those that ended before their moment came, then one that was killed."""
    runs: list[Killed] = []
    while len(runs) < _DRAWS and not (runs and runs[-1].died):
        runs.append(job.kill_and_resume(folder / str(len(runs)), after_s=rng.uniform(0.0, job.seconds)))
    return runs


if __name__ == "__main__":
    main(points=int(sys.argv[1]) if len(sys.argv) > 1 else 50)
