"""What might have been: the fan of resampled equity, and the same trading under dearer costs."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import BAND_INNER, BAND_OUTER, BLUE, GREY, INK, ORANGE, epoch_ms, growth_scale, styled
from tasks.report.thin import equity_points
from tasks.report.words import percent


def fan_figure(fan: pl.DataFrame, equity: pl.DataFrame) -> go.Figure | None:
    """Draw bands of resampled out-of-sample equity with the curve that really happened on top.

    Args:
        fan: ``bar`` (place in the out-of-sample rows), ``q05``, ``q25``, ``q50``, ``q75``, ``q95``.
        equity: Rows as `tasks.sweep.result.EQUITY` has them.

    Returns:
        The figure; None where either has no rows.
    """
    rows = equity.filter(pl.col("sample") == "out").sort("timestamp")
    if rows.is_empty() or fan.is_empty():
        return None
    x = epoch_ms(rows["timestamp"].gather(fan["bar"].clip(0, rows.height - 1)))
    points = equity_points(rows)
    band = {"line": {"width": 0}, "hoverinfo": "skip"}
    figure = go.Figure(
        [
            go.Scatter(x=x, y=fan["q05"].to_numpy(), showlegend=False, **band),
            go.Scatter(
                x=x, y=fan["q95"].to_numpy(), fill="tonexty", fillcolor=BAND_OUTER, name="90 % of draws", **band
            ),
            go.Scatter(x=x, y=fan["q25"].to_numpy(), showlegend=False, **band),
            go.Scatter(
                x=x, y=fan["q75"].to_numpy(), fill="tonexty", fillcolor=BAND_INNER, name="Half of draws", **band
            ),
            go.Scatter(
                x=x, y=fan["q50"].to_numpy(), name="Median draw", line={"color": GREY, "width": 1.4, "dash": "dot"}
            ),
            go.Scatter(
                x=epoch_ms(points["timestamp"]),
                y=points["equity"].to_numpy(),
                name="What happened",
                line={"color": BLUE, "width": 2},
            ),
        ]
    )
    figure.update_traces(hovertemplate="%{y:.3f}", selector={"hoverinfo": None})
    axis = {"title": {"text": "Growth of 1"}} | growth_scale(fan["q05"], fan["q95"], points["equity"])
    figure.update_layout(hovermode="x unified", xaxis={"type": "date"}, yaxis=axis)
    return styled(figure, height=400)


def costs_figure(costs: pl.DataFrame) -> go.Figure | None:
    """Draw the out-of-sample return at each multiple of the assumed costs; None where there is none.

    Args:
        costs: ``factor`` and ``total_return``.
    """
    if costs.is_empty():
        return None
    rows = costs.sort("factor")
    colours = [BLUE if value > 0 else ORANGE for value in rows["total_return"]]
    texts = [percent(made, 1) for made in rows["total_return"]]
    figure = go.Figure(
        go.Bar(
            x=[f"{factor:g} × costs" for factor in rows["factor"]],
            y=rows["total_return"].to_numpy(),
            marker={"color": colours},
            text=texts,
            textposition="outside",
            textfont={"color": INK},
            constraintext="none",
            textangle=0,
            cliponaxis=False,
            hoverinfo="skip",
            width=0.5,
        )
    )
    figure.update_layout(
        xaxis={"type": "category"}, yaxis={"title": {"text": "Total return"}, "tickformat": ".0%", "zeroline": True}
    )
    return styled(figure, height=300, legend=False)
