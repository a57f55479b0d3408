"""Data quality as a calendar: every day of a symbol, or every symbol by its days."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import PALETTE, styled
from tasks.report.words import count


@dataclass(frozen=True, slots=True)
class Level:
    """How good a day is: what the reader is told, the letter in its cell, and the cell's colour."""

    words: str
    letter: str
    shade: str


#: From the mildest to the worst; a cell that stands for several days shows its worst.
LEVELS = (
    Level("complete", "", "good"),
    Level("never judged", "u", "line"),
    Level("bars missing", "m", "pale"),
    Level("warning", "w", "bad"),
    Level("rejected, then released by a person", "r", "mauve"),
    Level("rejected", "x", "worst"),
)
_MISSING = 2
_STATUS = {"pass": 0, "unjudged": 1, "warn": 3, "released": 4, "reject": 5}

#: Beyond these a day is too narrow to see: weeks for one symbol, months for several.
MAX_DAYS_ALONE = 800
MAX_DAYS_SHARED = 370


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each cell goes: row, column, the columns' title and their order, None for those seen."""

    row: pl.Expr
    column: pl.Expr
    title: str
    columns: list[str] | None


def calendar_figure(days: pl.DataFrame) -> go.Figure | None:
    """Draw the quality of each day; None where there are no days.

    Args:
        days: One row a symbol and day: ``symbol``, ``day`` (Date), ``rows``, ``expected_rows``, ``status`` (``pass``,
            ``unjudged``, ``warn``, ``released`` or ``reject``). Days without expected bars have no row.
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
    return _figure(cells, rows, columns, layout.title)


def _level() -> pl.Expr:
    named = pl.col("status").replace_strict(_STATUS, return_dtype=pl.Int64)
    missing = (pl.col("rows") < pl.col("expected_rows")).cast(pl.Int64) * _MISSING
    return pl.max_horizontal(named, missing)


def _layout(days: pl.DataFrame) -> Layout:
    day, distinct = pl.col("day"), days["day"].n_unique()
    if days["symbol"].n_unique() > 1:
        form = "%Y-%m-%d" if distinct <= MAX_DAYS_SHARED else "%Y-%m"
        return Layout(pl.col("symbol"), day.dt.strftime(form), "", None)
    if distinct <= MAX_DAYS_ALONE:
        return Layout(day.dt.strftime("%Y-%m"), day.dt.day().cast(pl.String), "Day", [str(n) for n in range(1, 32)])
    return Layout(
        day.dt.iso_year().cast(pl.String), day.dt.week().cast(pl.String), "ISO week", [str(n) for n in range(1, 54)]
    )


def _figure(cells: pl.DataFrame, rows: list[str], columns: list[str], title: str) -> go.Figure:
    place = {name: k for k, name in enumerate(columns)}
    z: list[list[int | None]] = [[None] * len(columns) for _ in rows]
    text = [[""] * len(columns) for _ in rows]
    letters = [[""] * len(columns) for _ in rows]
    for cell in cells.iter_rows(named=True):
        y, x = rows.index(cell["row"]), place[cell["column"]]
        z[y][x], letters[y][x] = cell["level"], LEVELS[cell["level"]].letter
        bars = f"{count(cell['rows'])} of {count(cell['expected_rows'])} bars"
        text[y][x] = f"from {cell['day']}: {LEVELS[cell['level']].words}<br>{bars}"
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
            zmax=len(LEVELS) - 0.5,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_layout(
        xaxis={"type": "category", "showgrid": False, "categoryarray": columns, "title": {"text": title}},
        yaxis={"type": "category", "showgrid": False, "autorange": "reversed"},
    )
    return styled(figure, height=110 + 26 * len(rows), legend=False)


def _steps() -> list[list[float | str]]:
    """Return a colour scale with a flat step for each level."""
    edges = [k / len(LEVELS) for k in range(len(LEVELS) + 1)]
    pairs = [(edge, PALETTE[level.shade].light) for k, level in enumerate(LEVELS) for edge in edges[k : k + 2]]
    return [[edge, colour] for edge, colour in pairs]
