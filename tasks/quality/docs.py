"""Data Docs: Great Expectations' own pages about a lake, readable without any network.

They are built out of band, from what is on record: the profiles of all partitions are validated once more (a row a
partition, a fraction of a second) and the newest rejected ones row by row. Great Expectations' pages pull some 18
files from the network for looks and for an index that is nothing without them; these are cut out, a small style sheet
and a plain index are put in, so that a page opened from a folder or an artifact store shows what it says.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import great_expectations as gx
import polars as pl

from lake.store import Lake
from lake.timeline import interval as interval_named
from tasks.quality import suite
from tasks.quality.page import quarantine_page, render, style_sheet
from tasks.quality.parts import Part, parts
from tasks.quality.plan import Chunk, Market
from tasks.quality.profiles import read_profiles
from tasks.quality.rules import rules_of
from tasks.quality.thresholds import Thresholds
from tasks.quality.verdicts import current, holding

SITE = "lake"
#: Rejected partitions shown row by row, the newest ones: each page costs about a second.
MAX_ROW_PAGES = 20

_SCRIPTS = re.compile(r"<script\b.*?</script>", re.IGNORECASE | re.DOTALL)
_STYLES = re.compile(r"<style\b.*?</style>", re.IGNORECASE | re.DOTALL)
#: Files from the network, and those of the static folder, which is left out.
_FILES = re.compile(
    r"<(?:link|img)\b[^>]*\b(?:href|src)=[\"'](?:(?:https?:)?//|(?:\.\./)*static/)[^>]*>", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Page:
    """One validation in the index: its title, whether it passed, and where it and its suite are."""

    title: str
    success: bool
    path: str
    suite: str
    suite_path: str


def build_docs(lake: Lake, interval: str, out_dir: Path) -> Path:
    """Build the pages of an interval in `out_dir`, replacing what is there, and return the first one.

    Args:
        lake: Where profiles, verdicts and quarantine are.
        interval: Which bars.
        out_dir: Folder of the site.
    """
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    _open_site(out_dir)
    rejected = current(lake, interval).filter(pl.col("status") == "reject").sort("partition_start", descending=True)
    shown = _with_bad_bars(rejected).head(MAX_ROW_PAGES)
    profiles, pages = holding(read_profiles(lake, interval), "profiled_at"), []
    try:
        if profiles.height:
            pages.append(_partitions_page(profiles, interval, out_dir))
        for place, (row, part, limits) in enumerate(_looked_at(lake, interval, shown)):
            title = f"{row['symbol']} {part.start:%Y-%m-%d}"
            frame = suite.pandas_rows(part.seen.rows)
            pages.append(
                _page(f"bars-{place}", title, suite.row_expectations(limits, interval), frame, "SUMMARY", out_dir)
            )
    finally:
        # a suite that is gone takes its page with it, so that all stay until the last one is written
        suite.forget(page.suite for page in pages)
    for path in out_dir.rglob("*.html"):
        path.write_text(offline(path.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(out_dir / "static", ignore_errors=True)
    left_out = rejected.height - shown.height
    (out_dir / "quarantine.html").write_text(quarantine_page(lake, interval), encoding="utf-8")
    index = _index(interval, pages, profiles.height, left_out, lake.now())
    (out_dir / "index.html").write_text(index, encoding="utf-8")
    return out_dir / "index.html"


def offline(page: str) -> str:
    """Return a page of Great Expectations without scripts and anything remote, in our own style."""
    for pattern in (_SCRIPTS, _STYLES, _FILES):
        page = pattern.sub("", page)
    return page.replace("</head>", f"<style>{style_sheet()}</style></head>", 1)


def _open_site(out_dir: Path) -> None:
    project = suite.context()
    if SITE in project.get_site_names():
        project.delete_data_docs_site(SITE)
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(out_dir)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "site_index_builder": index}
    project.add_data_docs_site(SITE, {**site, "store_backend": backend})


def _partitions_page(profiles: pl.DataFrame, interval: str, out_dir: Path) -> Page:
    frame = _labelled(profiles).to_pandas()
    listed = {"result_format": "COMPLETE", "unexpected_index_column_names": ["partition"]}
    title = f"All {profiles.height} partitions of {interval} bars"
    return _page("partitions", title, suite.profile_expectations(), frame, listed, out_dir)


def _page(name: str, title: str, expectations: list[Any], frame: Any, result_format: Any, out_dir: Path) -> Page:
    """Validate a frame in a suite of that name, let Great Expectations write its page, and say where it is."""
    actions = [gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=[SITE])]
    made = suite.checkpoint(name, expectations, result_format, actions)
    run = made.run(batch_parameters={"dataframe": frame}, run_id=gx.RunIdentifier(run_name="judged"))
    (path,) = (out_dir / "validations" / name).rglob("*.html")
    page = path.read_text(encoding="utf-8").replace("<body>", f"<body><h1>{escape(title)}</h1>", 1)
    path.write_text(page, encoding="utf-8")
    return Page(title, run.success, quote(path.relative_to(out_dir).as_posix()), name, f"expectations/{name}.html")


def _labelled(profiles: pl.DataFrame) -> pl.DataFrame:
    # Great Expectations puts values into its pages as they are
    symbol = pl.col("symbol").map_elements(escape, return_dtype=pl.String)
    label = pl.format("{} {}", symbol, pl.col("partition_start").dt.strftime("%Y-%m-%d"))
    return profiles.with_columns(partition=label).sort("symbol", "partition_start")


def _with_bad_bars(rejected: pl.DataFrame) -> pl.DataFrame:
    """Return the verdicts that blame a bar: absent bars have no row that a suite could show."""
    rows = {rule.name for rule in rules_of("row")}
    blamed = [any(f["rule"] in rows for f in json.loads(text)) for text in rejected["findings_json"]]
    return rejected.filter(pl.Series(blamed, dtype=pl.Boolean))


def _looked_at(lake: Lake, interval: str, rejected: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Part, Thresholds]]:
    for row in rejected.iter_rows(named=True):
        limits = Thresholds.model_validate_json(row["thresholds_json"])
        span = (row["partition_start"], row["partition_end"])
        market = Market(row["calendar"], limits)
        chunk = Chunk(row["symbol"], interval_named(interval), (span,), market, None, "")
        for part in parts(lake, chunk, row["checked_at"]):
            yield row, part, limits


def _index(interval: str, pages: list[Page], partitions: int, left_out: int, now: datetime) -> str:
    return render(
        "index.html",
        interval=interval,
        pages=pages,
        partitions=partitions,
        left_out=left_out,
        most=MAX_ROW_PAGES,
        now=f"{now:%Y-%m-%d %H:%M}",
        version=gx.__version__,
    )
