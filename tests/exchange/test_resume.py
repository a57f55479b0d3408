"""A backfill that is killed costs the requests in flight and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.killed_backfill import CONCURRENCY, Job, outcome
from lake.store import Lake
from tasks.exchange import backfill
from tasks.exchange.backfill import backfill_range
from tasks.exchange.spool import Spool


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A backfill of a week from a market that lost some bars, and its uninterrupted outcome."""
    with Job(tmp_path_factory.mktemp("whole"), days=7) as running:
        yield running


def test_a_killed_run_is_resumed_where_it_stopped(job: Job, tmp_path: Path) -> None:
    """SIGKILL in the middle, then an ordinary run: same bars, same reasons, only pages in flight asked for twice."""
    killed = job.kill_and_resume(tmp_path, after_s=0.4 * job.seconds)
    assert killed.died
    assert killed.outcome == job.outcome
    assert killed.requests <= job.requests + CONCURRENCY


@pytest.mark.parametrize("step", ["_write", "_record", "clear"])
async def test_a_crash_between_any_two_steps_changes_nothing(
    job: Job, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash right before or after writing, recording or dropping the pages: the next run ends the same.

    Confirmations are counted per answer: pages that are recorded twice do not pass one answer off as two.
    """

    class Crash(BaseException):
        """Stands for the end of the process."""

    owner = Spool if step == "clear" else backfill.Backfill
    original = getattr(owner, step)

    for after in (False, True):
        root, asked = str(tmp_path / f"{step}-{after}"), job.asked

        def crash(*args: object, after: bool = after) -> None:
            if after:
                original(*args)
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(owner, step, crash)
            with pytest.raises(Crash):
                await backfill_range(root, *job.range, job.settings)
        await backfill_range(root, *job.range, job.settings)
        assert outcome(root, job) == job.outcome
        assert job.asked - asked == job.requests


async def test_the_table_is_whole_whenever_it_is_read(job: Job, tmp_path: Path) -> None:
    """Right after a kill the lake holds true bars only, each once."""
    killed = job.kill(tmp_path, after_s=0.6 * job.seconds)
    bars = Lake(killed.root).read_bars("BTCUSDT", "1m")
    assert bars["timestamp"].is_unique().all()
    assert bars.join(job.truth, on=bars.columns, how="anti", nulls_equal=True).is_empty()
