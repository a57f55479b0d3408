"""Returns by calendar: months of a long walk-forward, days of a short one."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import DIVERGING, styled
from tasks.report.words import percent

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

#: A shorter walk-forward than this is shown by days: one or two months make no calendar.
MONTHS_FROM = timedelta(days=92)


def period_returns(equity: pl.DataFrame, every: str) -> pl.DataFrame:
    """Return each period's return, compounding to the curve's total; the first period starts from 1.

    Args:
        equity: One sample's rows, as `tasks.sweep.result.EQUITY` has them.
        every: ``1mo`` or ``1d``.

    Returns:
        Columns ``timestamp`` (the period's start) and ``return`` (fraction).
    """
    last = equity.sort("timestamp").group_by_dynamic("timestamp", every=every).agg(pl.col("equity").last())
    before = pl.col("equity").shift(1, fill_value=1.0)
    return last.select("timestamp", (pl.col("equity") / before - 1).alias("return"))


def returns_figure(equity: pl.DataFrame) -> go.Figure | None:
    """Draw the out-of-sample returns as a calendar; None where there are no rows. `layout.meta` names the period."""
    rows = equity.filter(pl.col("sample") == "out")
    if rows.is_empty():
        return None
    span = rows.select(pl.col("timestamp").max() - pl.col("timestamp").min()).item()
    return _months(period_returns(rows, "1mo")) if span >= MONTHS_FROM else _days(period_returns(rows, "1d"))


def _months(returns: pl.DataFrame) -> go.Figure:
    placed = returns.with_columns(row=pl.col("timestamp").dt.year(), column=pl.col("timestamp").dt.month() - 1)
    totals = placed.group_by("row").agg(((pl.col("return") + 1).product() - 1).alias("total"))
    labels = {year: f"{year}  {percent(total, 1)}" for year, total in totals.iter_rows()}
    return _calendar(placed, MONTHS, labels, "month")


def _days(returns: pl.DataFrame) -> go.Figure:
    placed = returns.with_columns(
        row=pl.col("timestamp").dt.truncate("1w").dt.date(), column=pl.col("timestamp").dt.weekday() - 1
    )
    return _calendar(placed, WEEKDAYS, {week: f"week of {week}" for week in placed["row"].unique()}, "day")


def _calendar(placed: pl.DataFrame, columns: tuple[str, ...], labels: dict, period: str) -> go.Figure:
    rows = placed["row"].unique().sort(descending=True).to_list()
    cells: list[list[float | None]] = [[None] * len(columns) for _ in rows]
    for row, column, value in placed.select("row", "column", "return").iter_rows():
        cells[rows.index(row)][column] = value
    reach = max(float(np.abs(placed["return"].to_numpy()).max()), 1e-9)
    figure = go.Figure(
        go.Heatmap(
            x=list(columns),
            y=[labels[row] for row in rows],
            z=cells,
            text=[["" if value is None else percent(value, 1) for value in line] for line in cells],
            texttemplate="%{text}",
            hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
            colorscale=DIVERGING,
            zmin=-reach,
            zmax=reach,
            showscale=False,
            xgap=2,
            ygap=2,
            hoverongaps=False,
        )
    )
    figure.update_layout(
        meta={"period": period},
        xaxis={"type": "category", "side": "top", "showgrid": False},
        yaxis={"type": "category", "showgrid": False},
    )
    return styled(figure, height=90 + 34 * len(rows), legend=False)
