"""Proof: a backfill killed at 50 random points ends like one that was not. Run by ``make proof-backfill``.

Each point is a new lake: a process starts the backfill, dies by SIGKILL at a random moment of its work, another process
runs it again to its end. Judged: content hash, number of bars, number of confirmed-empty bars, confirmations of each of
them, and how many requests were spent beyond those of an uninterrupted run.
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
        killed = [_killed(job, Path(folder) / str(number), rng) for number in numbers]
        whole, requests = job.outcome, job.requests
    table = Table(f"{points} killed backfills of {days} days of minutes ({whole[1]:,} bars, {requests} requests each)")
    table.figure("killed before their end", sum(one.died for one in killed), at_least=0.8 * points)
    equal = sum(one.outcome == whole for one in killed)
    table.figure("equal to the uninterrupted run", equal, at_least=points, detail="hash, bars, confirmed-empty bars")
    most = max(one.requests - requests for one in killed)
    table.figure("most pages asked for twice", most, at_most=CONCURRENCY, detail=f"{CONCURRENCY} are in flight at once")
    table.finish()


def _killed(job: Job, folder: Path, rng: random.Random) -> Killed:
    """Kill one backfill; where it ended before its moment came (the machine is faster by now), draw another moment."""
    for attempt in range(_DRAWS):
        found = job.kill_and_resume(folder / str(attempt), after_s=rng.uniform(0.0, job.seconds))
        if found.died:
            break
    return found


if __name__ == "__main__":
    main(points=int(sys.argv[1]) if len(sys.argv) > 1 else 50)
