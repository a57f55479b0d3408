"""Parallel coordinates: every parameter set a line from its parameters to its Sharpe in and out of sample.

Drawn as plain lines instead of plotly's ``parcoords``, which needs WebGL and script evaluation: this one prints,
works in a remote desktop, and lives with the page's Content-Security-Policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import BLUE, GREY, INK, LINE, MUTED, ORANGE, styled
from tasks.report.summary import is_winner
from tasks.report.thin import sample_rows
from tasks.report.words import spell, word

#: Lines of a group beyond these are drawn by lot: more would be a solid block.
MAX_OTHERS, MAX_BEST = 250, 80
MAX_TICKS = 8
OUTCOMES = ("is_sharpe", "oos_sharpe")


@dataclass(frozen=True, slots=True)
class Axis:
    """One upright axis: where each row meets it (0 at the bottom, 1 at the top) and its labelled marks."""

    title: str
    heights: np.ndarray
    marks: list[tuple[float, str]]


def parallel_figure(grid: pl.DataFrame, params: tuple[str, ...], winner: Mapping[str, Any]) -> go.Figure | None:
    """Draw the grid's lines: the best tenth in sample over the rest, the winner on top.

    Returns:
        The figure; None where fewer than two parameters vary or the grid lacks a Sharpe.
    """
    varied = [name for name in params if grid[name].n_unique() > 1]
    if len(varied) < 2 or not set(OUTCOMES) <= set(grid.columns):
        return None
    rows = grid.filter(pl.all_horizontal(pl.col(OUTCOMES).is_finite()))
    if rows.height < 3:
        return None
    axes = [_axis(rows[name]) for name in (*varied, *OUTCOMES)]
    heights = np.column_stack([axis.heights for axis in axes])
    best = (rows["is_sharpe"] >= rows["is_sharpe"].quantile(0.9)).to_numpy()
    won = rows.select(is_winner(params, winner)).to_series().to_numpy()
    figure = go.Figure(
        [
            _lines(heights[~best], "Other sets", GREY, 0.8, 0.28, MAX_OTHERS),
            _lines(heights[best], "Best tenth in sample", BLUE, 1.2, 0.6, MAX_BEST),
            _lines(heights[won], "The winner", ORANGE, 3, 1, 1),
        ]
    )
    return _scaffold(figure, axes)


def _axis(column: pl.Series) -> Axis:
    """Space a parameter's levels evenly; give an outcome or a long list of levels a linear scale."""
    levels = column.unique().sort()
    title = word(column.name).title.replace("In-sample", "In-sample<br>").replace("Out-of-sample", "Out-of-sample<br>")
    if column.name in OUTCOMES or levels.len() > 60:
        values = column.cast(pl.Float64).to_numpy()
        low, high = float(values.min()), float(values.max())
        width = (high - low) or 1.0
        marks = [(k / 4, spell(column.name, low + width * k / 4)) for k in range(5)]
        return Axis(title, (values - low) / width, marks)
    place = {level: k / max(levels.len() - 1, 1) for k, level in enumerate(levels)}
    shown = levels.to_list()[:: -(-levels.len() // MAX_TICKS)]
    heights = np.array([place[value] for value in column])
    return Axis(title, heights, [(place[level], spell("", level)) for level in shown])


def _lines(heights: np.ndarray, name: str, colour: str, width: float, opacity: float, limit: int) -> go.Scatter:
    picked = sample_rows(pl.DataFrame({"row": np.arange(len(heights))}), limit)["row"].to_numpy()
    gap = np.full((len(picked), 1), np.nan)
    across = np.tile(np.append(np.arange(heights.shape[1], dtype=float), np.nan), len(picked))
    return go.Scatter(
        x=across.astype(np.float32),
        y=np.hstack([heights[picked], gap]).ravel().astype(np.float32),
        mode="lines",
        name=name,
        line={"color": colour, "width": width},
        opacity=opacity,
        hoverinfo="skip",
    )


def _scaffold(figure: go.Figure, axes: list[Axis]) -> go.Figure:
    styled(figure, height=420)
    posts = [
        {"type": "line", "x0": k, "x1": k, "y0": 0, "y1": 1, "line": {"color": MUTED, "width": 1}, "layer": "above"}
        for k in range(len(axes))
    ]
    marks = [
        {"x": k, "y": height, "text": text, "showarrow": False, "xanchor": "right", "xshift": -5}
        | {"font": {"size": 11, "color": INK}, "bgcolor": LINE, "borderpad": 1, "opacity": 0.9}
        for k, axis in enumerate(axes)
        for height, text in axis.marks
    ]
    return figure.update_layout(
        shapes=posts,
        annotations=marks,
        xaxis={
            "tickvals": list(range(len(axes))),
            "ticktext": [axis.title for axis in axes],
            "range": [-0.45, len(axes) - 0.75],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        yaxis={"visible": False, "range": [-0.05, 1.05], "fixedrange": True},
    )
