"""The parameter grid: the cube behind the heatmap, and in-sample against out-of-sample."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import BLUE, CARD, DIVERGING, GREY, INK, ORANGE, styled
from tasks.report.summary import is_winner
from tasks.report.thin import sample_rows
from tasks.report.words import number, word

#: Figures the heatmap offers, where the grid has them. Two of them and their twins keep a 100,000-row grid light.
HEAT_FIGURES = ("sharpe", "total_return", "max_drawdown", "trades")
MAX_LEVELS = 60
MAX_SCATTER = 2_500


def heat_data(grid: pl.DataFrame, params: tuple[str, ...], winner: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the grid as the page's script pivots it, None where there is nothing to pivot.

    A parameter becomes its levels and one code a row; one with more than `MAX_LEVELS` levels (a random search) is cut
    into as many equal bins. Figures travel as base64 float32.

    Returns:
        ``params`` (name, title, levels, codes, code of the winner) and ``figures`` (name, title, kind, values).
    """
    varied = [name for name in params if grid[name].n_unique() > 1]
    figures = [f"{sample}_{name}" for name in HEAT_FIGURES for sample in ("is", "oos") if f"{sample}_{name}" in grid]
    if not varied or not figures:
        return None
    varied.sort(key=lambda name: -grid[name].n_unique())
    return {
        "params": [_levels(grid[name], winner.get(name)) for name in varied],
        "figures": [
            {"name": name, "title": word(name).title, "kind": word(name).kind, "values": _packed(grid[name], "<f4")}
            for name in figures
        ],
    }


def _levels(column: pl.Series, chosen: object) -> dict[str, Any]:
    values = column.unique().sort()
    if values.len() > MAX_LEVELS and column.dtype.is_numeric():
        column, values, chosen = _binned(column, chosen)
    codes = column.replace_strict(values, pl.arange(values.len(), eager=True), return_dtype=pl.UInt16)
    levels = [number(value) if isinstance(value, float) else str(value) for value in values]
    winner = values.to_list().index(chosen) if chosen in values.to_list() else None
    return {"name": column.name, "title": word(column.name).title, "levels": levels, "winner": winner} | {
        "codes": _packed(codes, "<u2")
    }


def _binned(column: pl.Series, chosen: object) -> tuple[pl.Series, pl.Series, object]:
    """Replace each value by the middle of its bin, so that a random search has cells to fall into."""
    numbers = column.cast(pl.Float64).to_numpy()
    low, high = float(numbers.min()), float(numbers.max())
    width = (high - low) / MAX_LEVELS

    def middle(values: np.ndarray) -> np.ndarray:
        return low + (np.clip((values - low) // width, 0, MAX_LEVELS - 1) + 0.5) * width

    binned = pl.Series(column.name, middle(numbers))
    picked = float(middle(np.array([chosen], dtype=float))[0]) if isinstance(chosen, (int, float)) else None
    return binned, binned.unique().sort(), picked


def _packed(values: pl.Series, kind: str) -> str:
    return base64.b64encode(values.to_numpy().astype(kind).tobytes()).decode("ascii")


def heat_figure() -> go.Figure:
    """Return the empty heatmap that the page's script fills; it knows colours and axes, the script the numbers."""
    bar = {"thickness": 12, "outlinewidth": 0}
    figure = go.Figure(go.Heatmap(colorscale=DIVERGING, colorbar=bar, xgap=1, ygap=1, hoverongaps=False))
    # The script moves these frames onto the winner's cell; two, so that one of them shows on any colour.
    frames = [
        {"type": "rect", "line": {"color": CARD, "width": 7}},
        {"type": "rect", "line": {"color": INK, "width": 3}},
    ]
    axis = {"type": "category", "showgrid": False}
    figure.update_layout(xaxis=axis, yaxis=axis, shapes=frames)
    return styled(figure, height=440, legend=False)


def scatter_figure(grid: pl.DataFrame, params: tuple[str, ...], winner: Mapping[str, Any]) -> go.Figure | None:
    """Draw each parameter set's Sharpe in sample against out of sample; None where the grid lacks either."""
    if not {"is_sharpe", "oos_sharpe"} <= set(grid.columns):
        return None
    finite = grid.filter(pl.col("is_sharpe").is_finite() & pl.col("oos_sharpe").is_finite())
    if finite.is_empty():
        return None
    best = finite.filter(is_winner(params, winner))
    figure = go.Figure(
        [
            _dots(sample_rows(finite, MAX_SCATTER), params),
            *([_star(best, params)] if best.height else []),
        ]
    )
    styled(figure, height=440)
    axis = {"zeroline": True, "zerolinewidth": 1.5}
    return figure.update_layout(
        meta={"drawn": min(finite.height, MAX_SCATTER)},
        xaxis=axis | {"title": {"text": "Sharpe in sample"}},
        yaxis=axis | {"title": {"text": "Sharpe out of sample"}},
        shapes=[_diagonal(finite)],
    )


def _dots(rows: pl.DataFrame, params: tuple[str, ...]) -> go.Scatter:
    return go.Scatter(
        x=rows["is_sharpe"].to_numpy().astype(np.float32),
        y=rows["oos_sharpe"].to_numpy().astype(np.float32),
        mode="markers",
        name="A parameter set",
        marker={"size": 6, "color": BLUE, "opacity": 0.6},
        text=_labels(rows, params),
        hovertemplate="%{text}<br>in %{x:.2f}, out %{y:.2f}<extra></extra>",
    )


def _star(best: pl.DataFrame, params: tuple[str, ...]) -> go.Scatter:
    return go.Scatter(
        x=best["is_sharpe"].to_numpy(),
        y=best["oos_sharpe"].to_numpy(),
        mode="markers",
        name="The winner, chosen in sample",
        marker={"symbol": "star", "size": 16, "color": CARD, "line": {"width": 2, "color": ORANGE}},
        text=_labels(best, params),
        hovertemplate="%{text}<br>in %{x:.2f}, out %{y:.2f}<extra>winner</extra>",
    )


def _labels(rows: pl.DataFrame, params: tuple[str, ...]) -> list[str]:
    return [
        escape(
            ", ".join(f"{name} {number(value) if isinstance(value, float) else value}" for name, value in row.items())
        )
        for row in rows.select(params).iter_rows(named=True)
    ]


def _diagonal(rows: pl.DataFrame) -> dict[str, Any]:
    both = rows.select("is_sharpe", "oos_sharpe").to_numpy()
    low, high = float(both.min()), float(both.max())
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": low, "y0": low, "x1": high, "y1": high, "line": line, "layer": "below"}


def rank_correlation(grid: pl.DataFrame) -> float | None:
    """Return Spearman's correlation of Sharpe in and out of sample over the grid, None where it is undefined."""
    if not {"is_sharpe", "oos_sharpe"} <= set(grid.columns):
        return None
    finite = grid.filter(pl.col("is_sharpe").is_finite() & pl.col("oos_sharpe").is_finite())
    found = finite.select(pl.corr("is_sharpe", "oos_sharpe", method="spearman")).item() if finite.height > 2 else None
    return found if found is not None and np.isfinite(found) else None
