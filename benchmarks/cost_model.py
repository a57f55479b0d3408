"""What 500 and 10,000 symbols cost in requests, hours, disk, CPU and memory: ``make bench-cost``.

The model (`benchmarks/cost_workload.py`) is straight lines through two small measured runs. Before its table is printed
its predictions are held against larger runs of the same process: each must be within 20 %. CPU seconds are counted, not
those of the wall, so that a busy machine does not change them; only the metered backfill waits, for the plan's minutes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

import polars as pl
import structlog
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.cost_workload import BY_SYMBOL, PAGE_BARS, STAGES, Rates, Workload, minutes, through
from benchmarks.lake_bars import make_bars
from benchmarks.local_market import Served, served
from benchmarks.runner import Table
from flows.settings import REQUESTS_PER_MINUTE
from lake.store import Lake
from lake.timeline import interval as interval_named
from lake.timeline import partitions
from tasks.exchange.backfill import backfill_range
from tasks.exchange.source import SourceSettings
from tasks.features.build import build
from tasks.quality.whole_lake import check_lake
from tasks.sweep.task import sweep_symbol

START = datetime(2020, 1, 1, tzinfo=UTC)
METERED_RPM = 120
GRID = {"fast": list(range(5, 30, 5)), "slow": list(range(40, 400, 40))}  # 45 combinations, as the default grids have
COMBINATIONS = 45
Point = tuple[float, float, float]  #: units, bars, cost
WORKLOADS = (
    *(Workload(500, 10, "1h"), Workload(500, 10, "1m")),
    *(Workload(10_000, 10, "1d"), Workload(10_000, 10, "1h"), Workload(10_000, 10, "1m")),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One symbol's bars from `START` on."""

    interval: str
    end: datetime

    @property
    def bars(self) -> int:
        """How many."""
        step = interval_named(self.interval).step
        assert step is not None
        return round((self.end - START) / step)

    @property
    def parts(self) -> list[tuple[datetime, datetime]]:
        """The partitions they lie in."""
        return list(partitions(self.interval, START, self.end))


#: The lines are drawn through two runs whose partitions differ fivefold, and held against two larger ones.
NOTHING = Run("1h", datetime(2020, 1, 3, tzinfo=UTC))
FEW, MANY = Run("1h", datetime(2022, 1, 1, tzinfo=UTC)), Run("1m", datetime(2021, 5, 1, tzinfo=UTC))
HELD = (Run("1h", datetime(2026, 1, 1, tzinfo=UTC)), Run("1m", datetime(2022, 9, 1, tzinfo=UTC)))
#: For memory they are drawn further out: below these the process itself needs more than its bars.
SHORT, LONG, LONGEST = (Run("1m", datetime(*day, tzinfo=UTC)) for day in ((2020, 10, 1), (2021, 7, 1), (2022, 7, 1)))
METERED = Run("1m", datetime(2020, 7, 1, tzinfo=UTC))


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds of one call, threads included."""
    began = time.process_time()
    work()
    return time.process_time() - began


def filled(root: Path, run: Run) -> Lake:
    """Return a lake with one symbol, written partition by partition as a backfill does."""
    lake = Lake(str(root))
    opens = pl.datetime_range(START, run.end, run.interval, closed="left", eager=True, time_unit="us")
    bars = make_bars(run.bars, seed=1, start=START).with_columns(timestamp=opens)
    for start, end in run.parts:
        part = bars.filter(pl.col("timestamp").is_between(start, end, closed="left"))
        lake.write_bars(part, symbol="A", interval=run.interval, start=start, end=end)
    return lake


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fetched(market: Served, folder: Path, run: Run, requests_per_minute: int = 10_000_000) -> None:
    """Backfill one symbol's partitions, one after the other."""
    source = SourceSettings(
        base_url=market.url,
        api_key=SecretStr(market.api_key),
        requests_per_minute=requests_per_minute,
        budget_dir=str(folder / "budget"),
    )

    async def every_part() -> None:
        for part in run.parts:
            await backfill_range(str(folder / "lake"), "BTCUSDT", run.interval, *part, source)

    asyncio.run(every_part())


def costs_of(market: Served, folder: Path, run: Run) -> dict[str, Point]:
    """Go through every stage once; return figure → (units, bars, cost)."""
    place = Path(tempfile.mkdtemp(dir=folder))
    root, lake = str(place / "made"), filled(place / "made", run)
    found = {"disk": float(size_of(place / "made" / "klines"))}
    found["backfill"] = cpu_s(lambda: fetched(market, place, run))
    found["quality"] = cpu_s(lambda: check_lake(lake, run.interval))
    found["features"] = cpu_s(lambda: build(lake, "A", run.interval))
    found["feature_disk"] = float(size_of(place / "made" / "features"))
    points: dict[str, Point] = {
        name: (1 if name in BY_SYMBOL else len(run.parts), run.bars, cost) for name, cost in found.items()
    }
    if run != NOTHING:
        swept = cpu_s(lambda: sweep_symbol.fn(root, "A", run.interval, "ma_crossover", GRID))
        points["sweep"] = (1, run.bars * COMBINATIONS, swept)
    return points


def lowest(market: Served, folder: Path, run: Run) -> dict[str, Point]:
    """Go through every stage twice and return the lower costs: a busy machine only ever adds."""
    rounds = [costs_of(market, folder, run) for _ in range(2)]
    return {name: min((one[name] for one in rounds), key=itemgetter(2)) for name in rounds[0]}


def peak_mb(run: Run) -> float:
    """Return the peak memory of a process of its own that builds the features of a symbol."""
    words = [sys.executable, "-m", "benchmarks.cost_model", "--memory", run.interval, run.end.isoformat()]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def calibrated(nothing: dict[str, Point], few: dict[str, Point], many: dict[str, Point]) -> Rates:
    """Return the lines through two runs, after what a run takes that finds nothing."""
    run_s = {stage: nothing[stage][2] for stage in ("quality",)}
    without = [
        {name: (*point[:2], point[2] - run_s.get(name, 0.0)) for name, point in run.items()} for run in (few, many)
    ]
    lines = {name: through([run[name] for run in without]) for name in few}
    memory_mb = through([(1, run.bars, peak_mb(run)) for run in (SHORT, LONG)])
    return Rates(lines, run_s, memory_mb)


def hold(table: Table, rates: Rates, run: Run, points: dict[str, Point]) -> None:
    """Hold what was predicted of a larger run against what it cost; less than half a CPU second is noise."""
    for name, (units, bars, cost) in points.items():
        unit = "bytes" if "disk" in name else "CPU s"
        if unit == "CPU s" and cost < 0.5:
            continue
        judge(table, f"{name}, {run.bars:,} of {run.interval}", rates.cost(name, units, bars), cost, unit)


def hold_metered(table: Table, market: Served, folder: Path) -> None:
    """Hold requests and minutes of a backfill against the count of a market that meters."""
    asked, began = market.statuses().get(200, 0), time.monotonic()
    fetched(market, folder, METERED, METERED_RPM)
    taken, requests = time.monotonic() - began, market.statuses()[200] - asked
    pages = sum(math.ceil((end - start).total_seconds() / 60 / PAGE_BARS) for start, end in METERED.parts)
    judge(table, "requests of a backfill", pages, requests, "requests")
    judge(table, f"the same at {METERED_RPM} requests a minute", minutes(pages, METERED_RPM) * 60, taken, "s")


def judge(table: Table, name: str, predicted: float, measured: float, unit: str) -> None:
    """Add a prediction to the table; it must be within 20 %."""
    detail = f"predicted {predicted:,.4g} {unit}, measured {measured:,.4g} {unit}"
    table.figure(f"{name}: predicted / measured", predicted / measured, at_least=0.8, at_most=1.2, detail=detail)


def show(rates: Rates) -> None:
    """Print what the workloads cost."""
    plans = [plan for plan in REQUESTS_PER_MINUTE if plan != "free"]
    heads = ("symbols × years", "bars", "requests", *(f"{plan}, h" for plan in plans), "bars, GB", "features, GB")
    table = RichTable(*heads, *(f"{stage}, CPU h" for stage in STAGES), "memory, MB")
    for work in WORKLOADS:
        hours = (minutes(work.requests, REQUESTS_PER_MINUTE[plan]) / 60 for plan in plans)
        disks = (rates.of(figure, work, COMBINATIONS) / 1e9 for figure in ("disk", "feature_disk"))
        cpus = (rates.of(stage, work, COMBINATIONS) / 3600 for stage in STAGES)
        memory = rates.memory_mb.at(1, work.bars / work.symbols)
        figures = [f"{figure:,.3g}" if figure < 100 else f"{figure:,.0f}" for figure in (*hours, *disks, *cpus, memory)]
        name = f"{work.symbols:,} × {work.years} of {work.interval}"
        table.add_row(name, f"{work.bars / 1e6:,.0f} M", f"{work.requests:,}", *figures)
    Console(width=190).print(table)


def main() -> None:
    """Calibrate, hold against larger runs, print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if sys.argv[1:2] == ["--memory"]:
        run = Run(sys.argv[2], datetime.fromisoformat(sys.argv[3]))
        with tempfile.TemporaryDirectory() as folder:
            build(filled(Path(folder), run), "A", run.interval)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    table = Table("Predicted from small runs, held against larger ones")
    with tempfile.TemporaryDirectory() as name, served(("BTCUSDT",), START, HELD[0].end) as market:
        folder = Path(name)
        costs_of(market, folder, FEW)  # imports and kernels
        rates = calibrated(*(lowest(market, folder, run) for run in (NOTHING, FEW, MANY)))
        for run in HELD:
            hold(table, rates, run, lowest(market, folder, run))
        judge(table, f"memory, {LONGEST.bars:,} of 1m", rates.memory_mb.at(1, LONGEST.bars), peak_mb(LONGEST), "MB")
        hold_metered(table, market, folder)
    show(rates)
    table.finish()


if __name__ == "__main__":
    main()
