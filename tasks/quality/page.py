"""The quarantine page: what is rejected and why, bar by bar, in one file without anything remote."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lake.schema import BARS
from lake.store import Lake
from tasks.quality import quarantine
from tasks.quality.verdicts import current

#: Bars shown of one partition; the table `quality/quarantine` has them all.
MAX_ROWS = 200
_TEMPLATES = Path(__file__).parent / "templates"
_VALUES = [name for name in BARS if name != "timestamp"]


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)


def style_sheet() -> str:
    """Return the style sheet that every page of quality carries inside itself."""
    return (_TEMPLATES / "pages.css").read_text(encoding="utf-8")


def render(template: str, **values: object) -> str:
    """Return a page made of one of the templates, with the style sheet in it."""
    from markupsafe import Markup

    css = Markup(style_sheet())  # noqa: S704  # our own file, no input in it
    return _environment().get_template(template).render(css=css, **values)


def quarantine_page(lake: Lake, interval: str) -> str:
    """Return the page of every rejected partition of an interval, the released ones after the others."""
    verdicts = current(lake, interval)
    rejected = verdicts.filter(pl.col("status") == "reject").sort("released", "symbol", "partition_start")
    bars = quarantine.read(lake, interval)
    return render(
        "quarantine.html",
        interval=interval,
        total=verdicts.height,
        held=int((~rejected["released"]).sum()),
        released=int(rejected["released"].sum()),
        rows=bars.height,
        now=_moment(lake.now()),
        columns=_VALUES,
        partitions=[_partition(row, bars) for row in rejected.iter_rows(named=True)],
    )


def _partition(row: Mapping[str, Any], bars: pl.DataFrame) -> dict[str, object]:
    own = bars.filter(
        (pl.col("symbol") == row["symbol"])
        & (pl.col("partition_start") == row["partition_start"])
        & (pl.col("partition_end") == row["partition_end"])
    )
    findings = json.loads(row["findings_json"])
    status = "released" if row["released"] else "rejected"
    return {
        "words": " ".join([row["symbol"], status, *(finding["rule"] for finding in findings)]).lower(),
        "command": _release_command(row),
        "anchor": f"{row['symbol']}-{row['partition_start']:%Y-%m-%d}",
        "symbol": row["symbol"],
        "start": _moment(row["partition_start"]),
        "end": _moment(row["partition_end"]),
        "released": row["released"],
        "reason": row["release_reason"],
        "released_by": row["released_by"],
        "released_at": _moment(row["released_at"]),
        "findings": findings,
        "count": row["rows"],
        "expected": row["expected_rows"],
        "checked_at": _moment(row["checked_at"]),
        "suite": row["suite_version"],
        "content": row["content_hash"][:12],
        "rows": [_bar(bar) for bar in own.head(MAX_ROWS).iter_rows(named=True)],
        "left_out": max(own.height - MAX_ROWS, 0),
    }


def _release_command(row: Mapping[str, Any]) -> str:
    """Return what a person types to release the partition, in whole days; reason and name are theirs to give."""
    last = row["partition_end"] + timedelta(days=1, microseconds=-1)
    span = f"--start {row['partition_start']:%Y-%m-%d} --end {last:%Y-%m-%d}"
    words = f"{shlex.quote(row['symbol'])} --interval {row['interval']} {span}"
    return f"klinehouse release --symbol {words} --reason '…' --released-by '…'"


def _bar(bar: Mapping[str, Any]) -> dict[str, object]:
    absent = all(bar[name] is None for name in _VALUES)
    values = ["absent" if absent else _number(bar[name]) for name in _VALUES]
    return {"timestamp": _moment(bar["timestamp"], seconds=True), "numbers": values, "reasons": bar["reasons"]}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.10g}"


def _moment(moment: datetime | None, *, seconds: bool = False) -> str:
    if moment is None:
        return "–"
    return f"{moment:%Y-%m-%d %H:%M:%S}" if seconds and moment.second else f"{moment:%Y-%m-%d %H:%M}"
