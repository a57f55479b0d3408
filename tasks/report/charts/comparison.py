"""Several runs in one chart: their equity out of sample, what each kept of its Sharpe, and how alike they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.returns import period_returns
from tasks.report.charts.theme import (
    BLUE,
    CARD,
    DIVERGING,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    epoch_ms,
    growth_scale,
    styled,
)
from tasks.report.thin import equity_points
from tasks.report.words import ratio

#: Six hues times three dashes: every run of a page has its own line.
HUES = (BLUE, ORANGE, GREEN, PURPLE, INK, GREY)
DASHES = ("solid", "dash", "dot")
MAX_RUNS = len(HUES) * len(DASHES)

#: Fewer shared days than this say nothing about likeness.
MIN_SHARED_DAYS = 10


def overlay_figure(curves: Mapping[str, pl.DataFrame]) -> go.Figure | None:
    """Draw the out-of-sample equity of each run by its label; None where no run has any.

    Runs that share no time at all are drawn over the share of their own span, or they would lie as specks apart.
    """
    rows = {label: equity.filter(pl.col("sample") == "out").sort("timestamp") for label, equity in curves.items()}
    rows = {label: found for label, found in rows.items() if found.height}
    if not rows:
        return None
    together = max(found["timestamp"][0] for found in rows.values()) < min(
        found["timestamp"][-1] for found in rows.values()
    )
    limit = max(200, 6_000 // len(rows))
    figure = go.Figure()
    for number, (label, found) in enumerate(rows.items()):
        points = equity_points(found, limit)
        x = epoch_ms(points["timestamp"])
        figure.add_scatter(
            x=x if together else (x - x[0]) / max(x[-1] - x[0], 1.0),
            y=points["equity"].to_numpy().astype(np.float32),
            name=label,
            line={"color": HUES[number % len(HUES)], "width": 1.8, "dash": DASHES[number // len(HUES)]},
            hovertemplate="%{y:.3f}",
        )
    growth = {"title": {"text": "Growth of 1"}} | growth_scale(*(found["equity"] for found in rows.values()))
    share = {"tickformat": ".0%", "title": {"text": "Share of the run's own out-of-sample span"}}
    figure.update_layout(hovermode="x unified", xaxis={"type": "date"} if together else share, yaxis=growth)
    return styled(figure, height=440)


def kept_figure(sharpes: Sequence[tuple[str, float | None, float | None]]) -> go.Figure | None:
    """Draw for each run (label, Sharpe in, Sharpe out) a line from one to the other; None where no run has both."""
    both = [(label, inside, outside) for label, inside, outside in sharpes if _finite(inside) and _finite(outside)]
    if not both:
        return None
    labels = [label for label, _, _ in both]
    ends = [[inside, outside, None] for _, inside, outside in both]
    figure = go.Figure(
        [
            go.Scatter(
                x=[value for end in ends for value in end],
                y=[label for label in labels for _ in range(3)],
                mode="lines",
                line={"color": GREY, "width": 2},
                hoverinfo="skip",
                showlegend=False,
            ),
            _dots([end[0] for end in ends], labels, "In sample", ORANGE, "circle-open"),
            _dots([end[1] for end in ends], labels, "Out of sample", BLUE, "circle"),
        ]
    )
    figure.update_layout(
        xaxis={"title": {"text": "Sharpe"}, "zeroline": True, "zerolinewidth": 1.5},
        yaxis={"type": "category", "autorange": "reversed"},
    )
    return styled(figure, height=130 + 30 * len(both))


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _dots(values: list[float | None], labels: list[str], name: str, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=values,
        y=labels,
        mode="markers",
        name=name,
        marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
        hovertemplate="%{y}<br>" + name + " %{x:.2f}<extra></extra>",
    )


def daily_correlation(curves: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    """Return the correlation of the runs' daily out-of-sample returns over the days that all of them share.

    Returns:
        One column and one row a run, in the order of `curves`; None for a single run or too few shared days.
    """
    daily: pl.DataFrame | None = None
    for label, equity in curves.items():
        rows = equity.filter(pl.col("sample") == "out")
        if rows.is_empty():
            return None
        returns = period_returns(rows, "1d").rename({"return": label})
        daily = returns if daily is None else daily.join(returns, on="timestamp", how="inner")
    if daily is None or daily.width < 3 or daily.height < MIN_SHARED_DAYS:
        return None
    names = list(curves)
    with np.errstate(invalid="ignore", divide="ignore"):  # a run that never traded has no variance: NaN, shown as such
        matrix = np.corrcoef(daily.select(names).to_numpy(), rowvar=False)
    return pl.DataFrame(matrix, schema=names)


def likeness_figure(curves: Mapping[str, pl.DataFrame]) -> go.Figure | None:
    """Draw `daily_correlation` as a heatmap; None where it is undefined."""
    matrix = daily_correlation(curves)
    if matrix is None:
        return None
    cells = [[None if not _finite(value) else value for value in row] for row in matrix.rows()]
    figure = go.Figure(
        go.Heatmap(
            x=matrix.columns,
            y=matrix.columns,
            z=cells,
            text=[[ratio(value) for value in row] for row in cells],
            texttemplate="%{text}",
            colorscale=DIVERGING,
            zmin=-1,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y}<br>%{x}<br>%{text}<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis={"type": "category", "showgrid": False, "side": "bottom"},
        yaxis={"type": "category", "showgrid": False, "autorange": "reversed"},
        plot_bgcolor=CARD,
    )
    return styled(figure, height=170 + 34 * matrix.height, legend=False)
