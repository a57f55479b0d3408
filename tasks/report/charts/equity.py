"""Equity over drawdown, against buy and hold, with the walk-forward's window borders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import (
    BLUE,
    GREY,
    ORANGE,
    UNDER_WATER,
    UNDER_WATER_IN,
    borders,
    epoch_ms,
    growth_scale,
    styled,
)
from tasks.report.thin import equity_points


def equity_figure(
    equity: pl.DataFrame, sample: str, spans: Sequence[tuple[datetime, datetime]] = ()
) -> go.Figure | None:
    """Draw one sample's equity and drawdown; None where the sample has no rows.

    Args:
        equity: Rows as `tasks.sweep.result.EQUITY` has them.
        sample: ``out`` or ``in``.
        spans: Test spans of the walk-forward windows, drawn as borders.
    """
    rows = equity.filter(pl.col("sample") == sample).sort("timestamp")
    if rows.is_empty():
        return None
    points = equity_points(rows)
    colour = BLUE if sample == "out" else ORANGE
    figure = go.Figure([*_curves(points, colour), *_drawdowns(points, colour)])
    figure.update_layout(
        hovermode="x unified",
        xaxis={"type": "date", "anchor": "y2", "domain": [0, 1]},
        yaxis={"domain": [0.36, 1], "title": {"text": "Growth of 1"}}
        | growth_scale(points["equity"], points["benchmark"]),
        yaxis2={"domain": [0, 0.28], "title": {"text": "Drawdown"}, "tickformat": ".0%", "rangemode": "tozero"},
    )
    return borders(styled(figure, height=460), spans)


def _curves(points: pl.DataFrame, colour: str) -> list[go.Scatter]:
    x = epoch_ms(points["timestamp"])
    hover = "%{y:.3f}"
    return [
        go.Scatter(
            x=x,
            y=points["benchmark"].to_numpy(),
            name="Buy and hold",
            line={"color": GREY, "width": 1.4},
            hovertemplate=hover,
        ),
        go.Scatter(
            x=x,
            y=points["equity"].to_numpy(),
            name="Strategy, after costs",
            line={"color": colour, "width": 2},
            hovertemplate=hover,
        ),
    ]


def _drawdowns(points: pl.DataFrame, colour: str) -> list[go.Scatter]:
    x = epoch_ms(points["timestamp"])
    common = {"yaxis": "y2", "showlegend": False, "hovertemplate": "%{y:.2%}"}
    return [
        go.Scatter(
            x=x,
            y=points["benchmark_drawdown"].to_numpy(),
            name="Buy-and-hold drawdown",
            line={"color": GREY, "width": 1},
            **common,
        ),
        go.Scatter(
            x=x,
            y=points["drawdown"].to_numpy(),
            name="Drawdown",
            line={"color": colour, "width": 1},
            fill="tozeroy",
            fillcolor=UNDER_WATER if colour == BLUE else UNDER_WATER_IN,
            **common,
        ),
    ]
