"""Backfills in a process of their own that is killed; the suite kills a few, `proof_backfill.py` many."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import polars as pl
from pydantic import SecretStr

from lake.absences import bars_by_reason
from lake.coverage import Ledger
from lake.store import Lake
from tasks.exchange.source import SourceSettings
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator

START = datetime(2024, 1, 1, tzinfo=UTC)
CONCURRENCY = 4
#: Bars that are late, lost and doubled, so that there is something to confirm; every answer takes a moment, so that
#: pages are in flight when the process dies.
FAULTS = Faults(seed=5, lost_p=0.003, duplicate_p=0.01, latency_s=0.03)

_WORKER = """
import asyncio, sys
from datetime import datetime
from pydantic import SecretStr
from tasks.exchange.backfill import backfill_range
from tasks.exchange.source import SourceSettings

root, symbol, interval, start, end, settings, key = sys.argv[1:]
source = SourceSettings.model_validate_json(settings).model_copy(update={"api_key": SecretStr(key)})
span = datetime.fromisoformat(start), datetime.fromisoformat(end)
print("ready", flush=True)
asyncio.run(backfill_range(root, symbol, interval, *span, source))
"""


@dataclass(frozen=True)
class Killed:
    """What a killed run and its resumption came to.

    Attributes:
        root: Its lake.
        died: Whether the kill came before the run's own end.
        outcome: As `outcome` gives it, after the resumption.
        requests: Requests of both together.
    """

    root: str
    died: bool
    outcome: tuple[str, int, int] | None = None
    requests: int = 0


class Job:
    """A backfill against a local market: run whole once, then killed as often as wanted, each time in a new lake.

    Attributes:
        outcome: Content hash, bars and vendor-empty bars of the uninterrupted run.
        requests: Its requests.
        seconds: How long it takes in a process that is ready.
        truth: The market's own bars.
    """

    def __init__(self, folder: Path, *, days: int) -> None:
        self._folder, self._end = folder, START + timedelta(days=days)
        market = generated(seed=11, symbols=("BTCUSDT",), interval="1m", start=START, end=self._end)
        self._sim = Simulator(market, plan="unlimited", faults=FAULTS)

    def __enter__(self) -> Self:
        self._sim.start()
        self.settings = SourceSettings(
            base_url=self._sim.url,
            api_key=SecretStr(self._sim.api_key),
            requests_per_minute=100_000,
            concurrency=CONCURRENCY,
            budget_dir=str(self._folder / "budget"),
            now=self._end,
        )
        self.truth = self._sim.market.bars("BTCUSDT", "1m", START, self._end)
        root = str(self._folder / "lake")
        worker = self._start(root)
        began, before = time.monotonic(), self.asked
        if worker.wait(60):
            raise AssertionError("the uninterrupted run failed")
        self.seconds, self.requests = time.monotonic() - began, self.asked - before
        self.outcome = outcome(root, self)
        return self

    def __exit__(self, *error: object) -> None:
        self._sim.stop()

    @property
    def range(self) -> tuple[str, str, datetime, datetime]:
        """Symbol, interval, start and end of the backfill."""
        return "BTCUSDT", "1m", START, self._end

    @property
    def asked(self) -> int:
        """Requests that the market has answered, or begun to answer, so far."""
        return sum(self._sim.requests.values())

    def kill(self, folder: Path, *, after_s: float) -> Killed:
        """Start a backfill in a new lake and kill its process after so many seconds of work."""
        root = str(folder / "lake")
        worker = self._start(root)
        try:
            worker.wait(after_s)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGKILL)
        return Killed(root, died=worker.wait(60) == -signal.SIGKILL)

    def kill_and_resume(self, folder: Path, *, after_s: float) -> Killed:
        """Kill a backfill, then run it to its end in another process."""
        before = self.asked
        killed = self.kill(folder, after_s=after_s)
        self._until_quiet()
        if self._start(killed.root).wait(60):
            raise AssertionError("the resumed run failed")
        return Killed(killed.root, killed.died, outcome(killed.root, self), self.asked - before)

    def _until_quiet(self) -> None:
        """Wait for the market to count the requests that were in flight when their process died."""
        before = -1
        while before != (before := self.asked):
            time.sleep(3 * FAULTS.latency_s)

    def _start(self, root: str) -> subprocess.Popen[str]:
        symbol, interval, start, end = self.range
        words = [root, symbol, interval, start.isoformat(), end.isoformat(), self.settings.model_dump_json()]
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, *words, self._sim.api_key], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        if worker.stdout.readline().strip() != "ready":
            raise AssertionError("the worker did not start")
        return worker


def outcome(root: str, job: Job) -> tuple[str, int, int]:
    """Return the content hash of a lake, its bars, and how many absent ones the vendor confirmed it lacks."""
    lake = Lake(root)
    symbol, interval, start, end = job.range
    ledger = Ledger(lake, confirmations=job.settings.confirmations)
    absent = ledger.absences(symbol, interval, start, end, now=end)
    unexplained = absent.filter(pl.col("confirmations") != job.settings.confirmations)
    if not unexplained.is_empty():
        raise AssertionError(f"expected every absent bar confirmed {job.settings.confirmations} times: {unexplained}")
    present = lake.read_bars(symbol, interval, start, end).height
    return lake.content_hash(interval, symbol, start, end), present, bars_by_reason(absent)["vendor_empty"]
