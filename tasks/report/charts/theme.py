"""Colours and the common look of every chart, in two themes that share one figure.

A figure is built once, in the light colours; the page recolours it in the browser by exchanging each light colour for
its dark twin. Every colour of a figure therefore comes from `PALETTE`, spelled exactly as it is there. Hues are those
of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart with every common kind of colour blindness; no chart
says anything by red against green.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl


@dataclass(frozen=True, slots=True)
class Shade:
    """One colour in both themes, as CSS spells it."""

    light: str
    dark: str


#: Every colour of the page and its charts. The light spellings are unique, because they are the key of the exchange.
PALETTE: dict[str, Shade] = {
    "page": Shade("#f6f7f9", "#0f1319"),
    "card": Shade("#ffffff", "#171c24"),
    "ink": Shade("#1b2430", "#e7ebf0"),
    "muted": Shade("#56616f", "#a4afbd"),
    "line": Shade("#dde2e8", "#2d3642"),
    "blue": Shade("#0067a5", "#62b6ee"),
    "orange": Shade("#c25000", "#f2934a"),
    "purple": Shade("#9b4f86", "#d893c3"),
    "green": Shade("#00805e", "#35c79a"),
    "amber": Shade("#8a6100", "#e6b64c"),
    "grey": Shade("#7b8794", "#8793a1"),
    "band": Shade("rgba(0,103,165,0.06)", "rgba(98,182,238,0.08)"),
    "band_inner": Shade("rgba(0,103,165,0.22)", "rgba(98,182,238,0.26)"),
    "band_outer": Shade("rgba(0,103,165,0.11)", "rgba(98,182,238,0.13)"),
    "under_water": Shade("rgba(0,103,165,0.25)", "rgba(98,182,238,0.28)"),
    "under_water_in": Shade("rgba(200,82,0,0.2)", "rgba(242,147,74,0.22)"),
    # The ends and the middle of the diverging scale: orange is bad, blue is good, the middle is the card itself.
    "worst": Shade("#a63f00", "#b85f1a"),
    "bad": Shade("#eba26a", "#7a431a"),
    "middle": Shade("#f4f4f2", "#232a33"),
    "pale": Shade("#f3dfae", "#6e5a22"),
    "mauve": Shade("#c79bb8", "#6b4560"),
    "good": Shade("#7db8dc", "#245a86"),
    "best": Shade("#004f86", "#2f7fc0"),
}

INK = PALETTE["ink"].light
MUTED = PALETTE["muted"].light
LINE = PALETTE["line"].light
CARD = PALETTE["card"].light
BLUE = PALETTE["blue"].light
ORANGE = PALETTE["orange"].light
GREEN = PALETTE["green"].light
PURPLE = PALETTE["purple"].light
GREY = PALETTE["grey"].light
BAND = PALETTE["band"].light
BAND_INNER = PALETTE["band_inner"].light
BAND_OUTER = PALETTE["band_outer"].light
UNDER_WATER = PALETTE["under_water"].light
UNDER_WATER_IN = PALETTE["under_water_in"].light

#: Diverging scale for figures whose zero means something: orange below, blue above.
DIVERGING: list[list[float | str]] = [
    [0.0, PALETTE["worst"].light],
    [0.25, PALETTE["bad"].light],
    [0.5, PALETTE["middle"].light],
    [0.75, PALETTE["good"].light],
    [1.0, PALETTE["best"].light],
]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def exchange() -> dict[str, str]:
    """Return the map from each light colour to its dark twin, for the page's script."""
    return {shade.light: shade.dark for shade in PALETTE.values()}


def styled(figure: go.Figure, *, height: int = 380, legend: bool = True) -> go.Figure:
    """Give `figure` the house look and return it."""
    axis = {"gridcolor": LINE, "zerolinecolor": GREY, "linecolor": LINE, "tickcolor": LINE, "automargin": True}
    figure.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 16, "t": 28, "b": 40},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK}},
        hoverlabel={"bgcolor": CARD, "bordercolor": GREY, "font": {"color": INK}},
        dragmode="zoom",
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


#: Beyond this ratio of highest to lowest value a linear axis hides the early years.
LOG_FROM = 4.0


def growth_scale(*curves: pl.Series) -> dict[str, object]:
    """Return an axis for growth of 1: logarithmic, with ticks at 1, 2 and 5, where a linear one would hide much."""
    values = np.concatenate([curve.to_numpy() for curve in curves])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low <= 0 or high / low <= LOG_FROM:
        return {"type": "linear"}
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def epoch_ms(moments: pl.Series) -> np.ndarray:
    """Return timestamps as milliseconds since the epoch: an eighth of the size of ISO strings in the page."""
    return moments.dt.epoch("ms").cast(pl.Float64).to_numpy()


def moment_ms(moment: datetime) -> float:
    """Return one timestamp as milliseconds since the epoch."""
    return moment.timestamp() * 1000


#: More dotted lines than this hide the curve.
MAX_BORDERS = 24


def borders(figure: go.Figure, spans: Sequence[tuple[datetime, datetime]]) -> go.Figure:
    """Tint every second test span of the walk-forward and draw a dotted line at each start; of many, tint alone."""
    shapes: list[dict[str, Any]] = []
    for number, (start, end) in enumerate(spans):
        common: dict[str, Any] = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        if number % 2 == 0:
            tint = {"type": "rect", "x0": moment_ms(start), "x1": moment_ms(end), "fillcolor": BAND}
            shapes.append(common | tint | {"line": {"width": 0}})
        if len(spans) <= MAX_BORDERS:
            edge: dict[str, Any] = {"type": "line", "x0": moment_ms(start), "x1": moment_ms(start)}
            shapes.append(common | edge | {"line": {"color": GREY, "width": 1, "dash": "dot"}})
    return figure.update_layout(shapes=shapes)
