"""The report's door: read a finished run from the lake, write its page."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.store import Lake
from lake.timeline import utc
from tasks.report import sources
from tasks.report.summary import summary_markdown
from tasks.sweep.result import SweepResult
from tasks.sweep.store import load

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
    bars = sources.run_bars(lake, result)
    judged = sources.verdicts(lake, result.symbol, result.interval, *sources.span(result))
    days = sources.run_days(lake, result, bars, judged)
    page = render(result, bars, judged, sources.completeness(lake, result, bars), days)
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


@task(name="write-quality-calendar", task_run_name="quality calendar {interval}", cache_policy=NO_CACHE, retries=0)
def write_quality_calendar(lake_root: str, interval: str, start: datetime, end: datetime, out_dir: str) -> str:
    """Write the page of every symbol's data quality by days and return its path.

    Args:
        lake_root: Folder or address of the lake.
        interval: Length of the bars.
        start: First instant.
        end: First instant after the range.
        out_dir: Folder for the page; made where it does not exist.

    Raises:
        InputError: The lake has no such bars in the range.
    """
    from tasks.report.quality_page import quality_page  # plotly again

    days, judged = sources.lake_days(Lake(lake_root), interval, utc(start), utc(end))
    path = Path(out_dir) / f"quality-{interval}.html"
    write_page(path, quality_page(interval, days, judged))
    _log.info("quality_calendar.written", interval=interval, days=days.height, path=str(path))
    return str(path)


@task(name="write-portfolio", task_run_name="report {run_id}", cache_policy=NO_CACHE, retries=0)
def write_portfolio(lake_root: str, run_id: str, out_dir: str) -> str:
    """Write the page of a finished portfolio and return its path.

    Args:
        lake_root: Folder or address of the lake.
        run_id: The run to report.
        out_dir: Folder for the page; made where it does not exist.

    Raises:
        InputError: The lake has no such run.
    """
    from tasks.report.portfolio import portfolio_page  # plotly again
    from tasks.sweep.portfolio.store import load as load_portfolio

    path = Path(out_dir) / f"{run_id}.html"
    write_page(path, portfolio_page(load_portfolio(Lake(lake_root), run_id)))
    _log.info("portfolio_report.written", run_id=run_id, path=str(path))
    return str(path)


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
