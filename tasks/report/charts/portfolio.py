"""Several weightings of the same members: growth and drawdown side by side, and who held what when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import (
    BLUE,
    CARD,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    epoch_ms,
    growth_scale,
    styled,
)

#: Equal weight is grey, as buy and hold is in a sweep's report: what the others are held against.
HUES = {
    "equal": GREY,
    "inverse_volatility": GREEN,
    "minimum_variance": BLUE,
    "mean_variance": ORANGE,
    "hierarchical_risk_parity": PURPLE,
}
#: Fills of the stacked weights, told apart by a line between neighbours as well.
FILLS = (*(PALETTE[name].light for name in ("blue", "bad", "green", "mauve", "good", "orange", "pale", "purple")), GREY)
REST = "Other members"
#: Points a curve is drawn with; a screen has fewer.
MAX_POINTS = 1_500


def growth_figure(equity: pl.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Draw growth of 1 and drawdown of every method.

    Args:
        equity: `tasks.sweep.portfolio.result.EQUITY`.
        titles: Method → title, in the order of the lines.
    """
    figure, curves = go.Figure(), []
    for method, title in titles.items():
        rows = equity.filter(pl.col("method") == method).sort("timestamp")
        points = _thin(rows)
        curves.append(points["equity"])
        line = {"color": HUES[method], "width": 1.8, "dash": "dot" if method == "equal" else "solid"}
        x = epoch_ms(points["timestamp"])
        figure.add_scatter(
            x=x, y=points["equity"].to_numpy(), name=title, line=line, legendgroup=method, hovertemplate="%{y:.3f}"
        )
        figure.add_scatter(
            x=x,
            y=points["drawdown"].to_numpy(),
            name=f"{title}, drawdown",
            line=line | {"width": 1.2},
            yaxis="y2",
            legendgroup=method,
            showlegend=False,
            hovertemplate="%{y:.2%}",
        )
    figure.update_layout(
        hovermode="x unified",
        xaxis={"type": "date", "anchor": "y2", "domain": [0, 1]},
        yaxis={"domain": [0.36, 1], "title": {"text": "Growth of 1"}} | growth_scale(*curves),
        yaxis2={"domain": [0, 0.28], "title": {"text": "Drawdown"}, "tickformat": ".0%", "rangemode": "tozero"},
    )
    return styled(figure, height=520)


def weights_figure(weights: pl.DataFrame, members: Mapping[str, str]) -> go.Figure:
    """Draw one method's shares after each rebalancing as a stacked area; what is missing to 100 % is cash.

    Args:
        weights: `tasks.sweep.portfolio.result.WEIGHTS` of one method.
        members: Member → label; beyond nine the smallest are drawn as one.
    """
    wide = weights.pivot(on="member", index="filled_at", values="held").sort("filled_at")
    figure, x, stack = go.Figure(), epoch_ms(wide["filled_at"]), _shares(wide, members)
    for number, (label, shares) in enumerate(stack.items()):
        figure.add_scatter(
            x=x,
            y=shares,
            name=label,
            stackgroup="all",
            mode="lines",
            line={"width": 0.8, "color": CARD, "shape": "hv"},
            fillcolor=FILLS[number % len(FILLS)],
            hovertemplate="%{y:.1%}",
        )
    figure.update_layout(
        hovermode="x unified",
        xaxis={"type": "date"},
        yaxis={"range": [0, 1], "tickformat": ".0%", "title": {"text": "Share of the account"}},
    )
    legend = 20 * -(-len(stack) // 3)  # pixels its rows take from the plot
    return styled(figure, height=260 + legend)


def _shares(wide: pl.DataFrame, members: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return label → shares, in the order of the members, the smallest together where there are too many."""
    shares = {name: wide[name].to_numpy() for name in members}
    kept: Sequence[str] = list(members)
    if len(members) > len(FILLS):
        kept = sorted(members, key=lambda name: -shares[name].mean())[: len(FILLS) - 1]
    found = {members[name]: shares[name] for name in members if name in kept}
    rest = [shares[name] for name in members if name not in kept]
    return found | ({REST: np.sum(rest, axis=0)} if rest else {})


def _thin(rows: pl.DataFrame) -> pl.DataFrame:
    """Return about `MAX_POINTS` rows: of every stretch its last and its deepest drawdown."""
    if rows.height <= MAX_POINTS:
        return rows
    size = -(-2 * rows.height // MAX_POINTS)
    numbered = rows.with_row_index("row").with_columns(part=pl.col("row") // size)
    kept = numbered.group_by("part").agg(pl.col("row").last(), low=pl.col("row").get(pl.col("drawdown").arg_min()))
    wanted = pl.concat([kept["row"], kept["low"]]).unique()
    return numbered.filter(pl.col("row").is_in(wanted.implode()) | (pl.col("row") == 0)).drop("row", "part")
