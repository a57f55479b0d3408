"""The main job: backfill → quality → features → sweep in a row, then the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flows.adhoc import flow
from flows.backfill import Backfilled, backfill
from flows.features import FeatureNames, features
from flows.parameters import (
    DEFAULT_START,
    EndDay,
    Grid,
    IntervalName,
    Seed,
    Source,
    StartDay,
    StrategyName,
    Symbols,
    check_strategy,
)
from flows.quality import quality
from flows.settings import Settings, load
from flows.steps import key_of, log, publish_file, publish_markdown, publish_table, step, subflow
from flows.sweep import sweep
from tasks.errors import RejectedDataError
from tasks.quality.verdicts import Verdict
from tasks.report.task import summarise_run, write_comparison, write_report
from tasks.sweep.costs import Costs
from tasks.sweep.search import Search
from tasks.sweep.task import SweepSummary
from tasks.sweep.windows import WindowPlan

#: More runs than this do not fit one page of comparison.
MOST_COMPARED = 18


@dataclass(frozen=True)
class Researched:
    """What a research run leaves behind.

    Attributes:
        backfilled: One line a symbol.
        verdicts: One verdict a partition.
        sweeps: One headline a symbol.
        reports: Path of each symbol's report, in the order of `sweeps`, then of the page that compares them.
        seconds: Wall time of each stage.
    """

    backfilled: list[Backfilled]
    verdicts: list[Verdict]
    sweeps: list[SweepSummary]
    reports: list[str]
    seconds: dict[str, float] = field(default_factory=dict)


@flow(name="research", flow_run_name="research {strategy} {interval}")
async def research(
    symbols: Symbols,
    interval: IntervalName = "1h",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
    strategy: StrategyName = "ma_crossover",
    grid: Grid = {},  # noqa: B006  (never written to)
    costs: Costs = Costs(),  # noqa: B008  (frozen)
    windows: WindowPlan = WindowPlan(),  # noqa: B008  (frozen)
    search: Search = Search(),  # noqa: B008  (frozen)
    feature_names: FeatureNames = None,
    source: Source = "tickdb",
    allow_rejected: bool = False,
    seed: Seed = 0,
) -> Researched:
    """Fetch bars, judge them, compute features, search a strategy out of sample, and write a report of each symbol.

    Args:
        symbols: Symbols in the vendor's spelling, such as BTCUSDT or AAPL.US.
        interval: Length of a bar.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.
        strategy: Strategy to search.
        grid: Values to try for each parameter, such as {"fast": [10, 20]}; empty for the strategy's own grid.
        costs: What trading costs; never free by default.
        windows: How the sample is cut into train and test parts.
        search: Every combination, random ones, or those that Optuna asks for.
        feature_names: Features to store; empty for all.
        source: tickdb, or an exchange of ccxt such as ccxt:binance.
        allow_rejected: Go on although quality rejected a partition; the report says so.
        seed: Seed of everything random, kept in the record.

    Returns:
        What each stage did, and where the reports are.

    Raises:
        RejectedDataError: Quality rejected a partition; the message names it.
    """
    check_strategy(strategy)
    settings, seconds = load(), dict[str, float]()
    days = {"symbols": symbols, "interval": interval, "start": start, "end": end}
    with _timed(seconds, "backfill"):
        fetched = await subflow(backfill, **days, source=source)
    with _timed(seconds, "quality"):
        verdicts = await subflow(quality, **days)
    _refuse(verdicts, allowed=allow_rejected)
    with _timed(seconds, "features"):
        await subflow(features, **days, names=feature_names)
    with _timed(seconds, "sweep"):
        chosen = {
            "strategy": strategy,
            "grid": grid,
            "costs": costs,
            "windows": windows,
            "search": search,
            "seed": seed,
        }
        found = await subflow(sweep, **days, **chosen)
    with _timed(seconds, "report"):
        reports = await _report(settings, found)
    stages = [{"stage": stage, "seconds": round(spent, 1)} for stage, spent in seconds.items()]
    await publish_table("research-stages", stages, "Wall time of each stage")
    return Researched(fetched, verdicts, found, reports, seconds)


async def _report(settings: Settings, found: list[SweepSummary]) -> list[str]:
    """Write a page of each run, and one that compares them; link all of them from this run."""
    root, folder = settings.lake_root, str(settings.report_dir.absolute())
    paths = []
    for line in found:
        paths.append(await step(write_report, root, line.run_id, folder))
        words = (line.symbol, line.interval, line.strategy)
        await publish_markdown(key_of("verdict", *words), await step(summarise_run, root, line.run_id), line.verdict)
        await publish_file(key_of("report", *words), paths[-1], line.verdict)
    if 2 <= len(found) <= MOST_COMPARED:
        paths.append(await step(write_comparison, root, [line.run_id for line in found], folder))
        await publish_file(
            key_of("comparison", found[0].interval, found[0].strategy), paths[-1], "All symbols on one page"
        )
    return paths


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[stage] = time.monotonic() - began


def _refuse(verdicts: list[Verdict], *, allowed: bool) -> None:
    """Stop on rejected partitions unless they are allowed."""
    rejected = [str(verdict) for verdict in verdicts if verdict.refused]
    if not rejected:
        return
    if not allowed:
        raise RejectedDataError(
            f"research: expected partitions that pass quality, found {len(rejected)} rejected: {'; '.join(rejected)}; "
            "fetch them again, release them with a reason, or set allow_rejected to go on with them"
        )
    log.warning("rejected.allowed", partitions=rejected)


if __name__ == "__main__":
    from flows.cli import main

    main()
