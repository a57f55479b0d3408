"""The data quality of a whole lake on one page: symbols by days, and every verdict that is not clean."""

from __future__ import annotations

import polars as pl

from tasks.errors import InputError
from tasks.report import tables, words
from tasks.report.charts.calendar import calendar_figure
from tasks.report.document import document

#: The worst come first; beyond these the table is cut and says so.
MAX_VERDICTS = 400


def quality_page(interval: str, days: pl.DataFrame, verdicts: pl.DataFrame) -> str:
    """Return one self-contained page.

    Args:
        interval: Length of the bars.
        days: One row a symbol and day, as `tasks.report.charts.calendar.calendar_figure` takes them.
        verdicts: Verdict rows, with `release_reason` where a person released some; may be empty.

    Raises:
        InputError: There are no days, so there is nothing to show.
    """
    figure = calendar_figure(days)
    if figure is None:
        raise InputError(f"quality calendar: expected {interval} bars in the range, found none; run the backfill flow")
    doubtful = tables.quality_rows(verdicts.filter(pl.col("status") != "pass") if verdicts.height else verdicts)
    missing = int((days["expected_rows"] - days["rows"]).sum())
    return document(
        "quality.html.j2",
        {"calendar": figure},
        interval=interval,
        symbols=words.count(days["symbol"].n_unique()),
        first=days["day"].min(),
        last=days["day"].max(),
        warning=" ".join(filter(None, (tables.quality_warning(verdicts), _unjudged(days)))),
        figures=[
            (words.word("bars"), words.count(int(days["rows"].sum()))),
            (words.word("expected_bars"), words.count(int(days["expected_rows"].sum()))),
            (words.word("missing_bars"), words.count(missing)),
        ],
        quality=doubtful[:MAX_VERDICTS],
        left_out=len(doubtful) - MAX_VERDICTS,
    )


def _unjudged(days: pl.DataFrame) -> str:
    """Name the symbols that no verdict covers at all, empty where there are none."""
    never = days.group_by("symbol").agg((pl.col("status") == "unjudged").all()).filter("status")["symbol"].sort()
    return f"Never judged: {', '.join(never)}." if len(never) else ""
