"""Data quality as a calendar: every day of a symbol, or every symbol by its days."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import PALETTE, styled
from tasks.report.words import count

#: From the mildest to the worst; a cell that stands for several days shows its worst.
LEVELS = ("complete", "bars missing", "warning", "rejected")
_LETTERS = ("", "m", "w", "r")
_SHADES = ("good", "pale", "bad", "worst")

#: Beyond these a day is too narrow to see: weeks for one symbol, months for several.
MAX_DAYS_ALONE = 800
MAX_DAYS_SHARED = 370


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each cell goes: expressions for row and column, and the columns in order, None where they speak."""

    row: pl.Expr
    column: pl.Expr
    columns: list[str] | None


def calendar_figure(days: pl.DataFrame) -> go.Figure | None:
    """Draw the quality of each day; None where there are no days.

    Args:
        days: One row a symbol and day: ``symbol``, ``day`` (Date), ``rows``, ``expected_rows``, ``status`` (``pass``,
            ``warn`` or ``reject``). Days without expected bars have no row.
    """
    if days.is_empty():
        return None
    layout = _layout(days)
    cells = (
        days.with_columns(level=_level(), row=layout.row, column=layout.column)
        .group_by("row", "column")
        .agg(pl.col("level").max(), pl.col("rows", "expected_rows").sum(), pl.col("day").min())
        .sort("row", "column")
    )
    rows = cells["row"].unique().sort().to_list()
    columns = layout.columns or cells["column"].unique().sort().to_list()
    return _figure(cells, rows, columns)


def _level() -> pl.Expr:
    named = pl.col("status").replace_strict({"reject": 3, "warn": 2}, default=0, return_dtype=pl.Int64)
    missing = (pl.col("rows") < pl.col("expected_rows")).cast(pl.Int64)
    return pl.max_horizontal(named, missing)


def _layout(days: pl.DataFrame) -> Layout:
    day, distinct = pl.col("day"), days["day"].n_unique()
    if days["symbol"].n_unique() > 1:
        form = "%Y-%m-%d" if distinct <= MAX_DAYS_SHARED else "%Y-%m"
        return Layout(pl.col("symbol"), day.dt.strftime(form), None)
    if distinct <= MAX_DAYS_ALONE:
        return Layout(day.dt.strftime("%Y-%m"), day.dt.day().cast(pl.String), [str(n) for n in range(1, 32)])
    weeks = [f"week {n}" for n in range(1, 54)]
    return Layout(day.dt.iso_year().cast(pl.String), "week " + day.dt.week().cast(pl.String), weeks)


def _figure(cells: pl.DataFrame, rows: list[str], columns: list[str]) -> go.Figure:
    place = {name: k for k, name in enumerate(columns)}
    z: list[list[int | None]] = [[None] * len(columns) for _ in rows]
    text = [[""] * len(columns) for _ in rows]
    letters = [[""] * len(columns) for _ in rows]
    for cell in cells.iter_rows(named=True):
        y, x = rows.index(cell["row"]), place[cell["column"]]
        z[y][x], letters[y][x] = cell["level"], _LETTERS[cell["level"]]
        bars = f"{count(cell['rows'])} of {count(cell['expected_rows'])} bars"
        text[y][x] = f"from {cell['day']}: {LEVELS[cell['level']]}<br>{bars}"
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=rows,
            z=z,
            text=letters,
            customdata=text,
            texttemplate="%{text}",
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=_steps(),
            zmin=-0.5,
            zmax=3.5,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_layout(
        xaxis={"type": "category", "showgrid": False, "categoryarray": columns},
        yaxis={"type": "category", "showgrid": False, "autorange": "reversed"},
    )
    return styled(figure, height=110 + 26 * len(rows), legend=False)


def _steps() -> list[list[float | str]]:
    """Return a colour scale of four flat steps."""
    edges = [k / len(_SHADES) for k in range(len(_SHADES) + 1)]
    return [[edge, PALETTE[shade].light] for k, shade in enumerate(_SHADES) for edge in (edges[k], edges[k + 1])]
