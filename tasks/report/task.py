"""The report's door: read a finished run from the lake, write its page."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl
import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.schema import TIMESTAMP
from lake.store import Lake
from lake.timeline import interval as interval_named
from tasks.report.coverage import coverage, missing_reasons, near_gaps, quality_days
from tasks.report.summary import summary_markdown
from tasks.sweep.result import SweepResult
from tasks.sweep.store import load

VERDICTS = "quality/verdicts"
RELEASES = "quality/releases"
QUARANTINE = "quality/quarantine"

_log = structlog.get_logger(__name__)


@task(name="write-report", task_run_name="report {run_id}", cache_policy=NO_CACHE, retries=0)
def write_report(lake_root: str, run_id: str, out_dir: str) -> str:
    """Write the page of a finished run and return its path.

    Everything comes from the lake: the result, the bars it ran on (in the version it read) and their verdicts. The
    page replaces an older one of the same run at once or not at all.

    Args:
        lake_root: Folder or address of the lake.
        run_id: The run to report.
        out_dir: Folder for the page; made where it does not exist.

    Raises:
        InputError: The lake has no such run, or the run has nothing to report.
    """
    from tasks.report.page import render  # plotly loads only where a page is drawn

    lake = Lake(lake_root)
    result = load(lake, run_id)
    start, end = span(result)
    bars = lake.read_bars(result.symbol, result.interval, start, end, version=_version(result))
    judged = verdicts(lake, result, start, end)
    page = render(result, bars, judged, completeness(lake, result, bars), day_by_day(lake, result, bars, judged))
    path = Path(out_dir) / file_name(result)
    write_page(path, page)
    _log.info("report.written", run_id=run_id, path=str(path), size_bytes=len(page.encode()))
    return str(path)


@task(name="summarise-run", task_run_name="summarise {run_id}", cache_policy=NO_CACHE, retries=0)
def summarise_run(lake_root: str, run_id: str) -> str:
    """Return verdict and figures of a finished run as markdown, for an artifact.

    Args:
        lake_root: Folder or address of the lake.
        run_id: The run to speak of.

    Raises:
        InputError: The lake has no such run.
    """
    return summary_markdown(load(Lake(lake_root), run_id))


@task(name="write-comparison", cache_policy=NO_CACHE, retries=0)
def write_comparison(lake_root: str, run_ids: Sequence[str], out_dir: str) -> str:
    """Write the page that compares finished runs and return its path; it links to the reports beside it.

    Args:
        lake_root: Folder or address of the lake.
        run_ids: Two to eighteen runs.
        out_dir: Folder for the page; made where it does not exist.

    Raises:
        InputError: The lake lacks a run, or there are too few or too many.
    """
    from tasks.report.compare import compare  # plotly again

    lake, folder = Lake(lake_root), Path(out_dir)
    results = [load(lake, run_id) for run_id in run_ids]
    links = {result.run_id: file_name(result) for result in results if (folder / file_name(result)).exists()}
    digest = hashlib.sha256("\n".join(sorted(run_ids)).encode()).hexdigest()[:12]
    path = folder / f"compare-{digest}.html"
    write_page(path, compare(results, links))
    _log.info("comparison.written", runs=len(results), path=str(path))
    return str(path)


def span(result: SweepResult) -> tuple[datetime, datetime]:
    """Return the half-open span of the bars a result speaks of."""
    first, last = result.equity.select(pl.col("timestamp").min(), pl.col("timestamp").max().alias("last")).row(0)
    return first, interval_named(result.interval).next(last)


def verdicts(lake: Lake, result: SweepResult, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the verdicts of the partitions that touch ``[start, end)`` and the reason where a person released one."""
    if not lake.exists(VERDICTS):
        return pl.DataFrame()
    mine = (pl.col("symbol") == result.symbol) & (pl.col("interval") == result.interval)
    touching = (pl.col("partition_start") < end) & (pl.col("partition_end") > start)
    found = lake.scan(VERDICTS).filter(mine & touching).collect()
    if not lake.exists(RELEASES):
        return found
    keys = ["symbol", "interval", "partition_start", "content_hash"]
    released = lake.scan(RELEASES).filter(mine).sort("released_at").collect().unique(keys, keep="last")
    return found.join(released.select(*keys, release_reason="reason"), on=keys, how="left")


def completeness(lake: Lake, result: SweepResult, bars: pl.DataFrame) -> dict[str, object]:
    """Return the coverage of the bars by the calendar of the run's record, and why each missing bar is missing.

    Bars alone where the record names no calendar.
    """
    name = result.record.get("calendar")
    if not name:
        return {"bars": bars.height}
    calendar = TradingCalendar.parse(name)
    found = coverage(bars, result.interval, calendar)
    if found.get("missing_bars"):
        start, end = span(result)
        absent = Ledger(lake).absences(result.symbol, result.interval, start, end, calendar=calendar)
        expected = calendar.expected_opens(result.interval, start, end)
        found |= {f"missing_{reason}": bars_ for reason, bars_ in missing_reasons(bars, expected, absent).items()}
        found |= near_gaps(result.trades, bars, expected)
    return found


def day_by_day(lake: Lake, result: SweepResult, bars: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame | None:
    """Return the quality of each day of the run; None where the record names no calendar."""
    name = result.record.get("calendar")
    if not name:
        return None
    held = pl.Series("timestamp", [], TIMESTAMP)
    if lake.exists(QUARANTINE):
        mine = (pl.col("symbol") == result.symbol) & (pl.col("interval") == result.interval)
        held = lake.scan(QUARANTINE).filter(mine).select("timestamp").collect()["timestamp"]
    return quality_days(bars, result.symbol, result.interval, TradingCalendar.parse(name), judged, held)


def file_name(result: SweepResult) -> str:
    """Return a name that says what the page is about, whatever the symbol's spelling holds."""
    parts = (result.symbol, result.interval, result.run_id)
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip(".-") or "x" for part in parts) + ".html"


def write_page(path: Path, page: str) -> None:
    """Write a page so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _version(result: SweepResult) -> int | None:
    version = result.record.get("lake_version")
    return version if isinstance(version, int) else None
