"""Equity and position of one strategy on three paths, with the places where they part."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import BLUE, GREY, INK, ORANGE, epoch_ms, styled
from tasks.report.thin import MAX_MARKERS, MAX_POINTS

#: Path → its name and line; the live path is drawn last and thinnest, so that what agrees is seen as one line.
PATHS = {
    "sweep": ("Sweep", {"color": GREY, "width": 6}),
    "event": ("VectorBT", {"color": ORANGE, "width": 3, "dash": "dot"}),
    "live": ("Live replay", {"color": BLUE, "width": 1.6}),
}


def parity_figure(paths: pl.DataFrame, differences: pl.DataFrame) -> go.Figure:
    """Draw equity above position, and a mark on the live line at each difference that follows from no other.

    Args:
        paths: ``timestamp``, and for each path its equity and ``<path>_position`` at each close.
        differences: ``timestamp``, ``what``, ``cause`` and ``follows``.
    """
    points = _thinned(paths)
    x = epoch_ms(points["timestamp"])
    lines = [
        go.Scatter(x=x, y=points[path].to_numpy(), name=name, line=line, hovertemplate="%{y:.2f}")
        for path, (name, line) in PATHS.items()
    ]
    steps = [
        go.Scatter(
            x=x,
            y=points[f"{path}_position"].to_numpy(),
            name=name,
            yaxis="y2",
            showlegend=False,
            line=line | {"shape": "hv"},
            hovertemplate="%{y:.6g}",
        )
        for path, (name, line) in PATHS.items()
    ]
    figure = go.Figure([*lines, *steps, *_marks(paths, differences)])
    figure.update_layout(
        hovermode="x unified",
        xaxis={"type": "date", "anchor": "y2", "domain": [0, 1]},
        yaxis={"domain": [0.42, 1], "title": {"text": "Equity"}},
        yaxis2={"domain": [0, 0.34], "title": {"text": "Position"}, "zeroline": True},
    )
    return styled(figure, height=520)


def _marks(paths: pl.DataFrame, differences: pl.DataFrame) -> list[go.Scatter]:
    own = differences.filter(pl.col("follows").is_null()).head(MAX_MARKERS)
    if own.is_empty():
        return []
    placed = own.join(paths.select("timestamp", "live"), on="timestamp", how="left")
    marker = {"symbol": "x-thin", "size": 9, "line": {"color": INK, "width": 2}}
    texts = [f"{what}: {cause}" for what, cause in placed.select("what", "cause").rows()]
    return [
        go.Scatter(
            x=epoch_ms(placed["timestamp"]),
            y=placed["live"].to_numpy(),
            mode="markers",
            name="Where they part",
            marker=marker,
            text=texts,
            hovertemplate="%{text}<extra></extra>",
        )
    ]


def _thinned(paths: pl.DataFrame) -> pl.DataFrame:
    """Return at most `MAX_POINTS` rows: the last of each stretch."""
    if paths.height <= MAX_POINTS:
        return paths
    stretch = (pl.int_range(pl.len()) * MAX_POINTS // pl.len()).alias("stretch")
    return paths.group_by(stretch, maintain_order=True).agg(pl.all().last()).drop("stretch")
