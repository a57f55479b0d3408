"""The price as candles with the trades on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import BLUE, CARD, INK, ORANGE, borders, epoch_ms, styled
from tasks.report.thin import candle_interval, candles, latest
from tasks.report.words import number, percent


def price_figure(
    bars: pl.DataFrame,
    interval: str,
    trades: pl.DataFrame,
    spans: Sequence[tuple[datetime, datetime]] = (),
) -> go.Figure | None:
    """Draw candles, resampled until they fit a page, with entries and exits at their fill prices.

    Args:
        bars: The symbol's bars, `lake.schema.BARS`.
        interval: Their interval.
        trades: Rows as `tasks.sweep.result.TRADES` has them; the latest few hundred are drawn.
        spans: Test spans of the walk-forward windows.

    Returns:
        The figure, None where there are no bars; `layout.meta` tells the candles' interval and the trades drawn.
    """
    if bars.is_empty():
        return None
    coarse = candle_interval(bars, interval)
    shown = latest(trades)
    figure = go.Figure([_candles(candles(bars, coarse), coarse), *_markers(shown)])
    styled(figure, height=480)
    figure.update_layout(
        meta={"interval": coarse, "trades_drawn": shown.height},
        xaxis={"type": "date", "rangeslider": {"visible": False}},
        yaxis={"title": {"text": "Price"}},
    )
    return borders(figure, spans)


def _candles(frame: pl.DataFrame, interval: str) -> go.Candlestick:
    return go.Candlestick(
        x=epoch_ms(frame["timestamp"]),
        **{name: frame[name].to_numpy().astype(np.float32) for name in ("open", "high", "low", "close")},
        name=f"Price, {interval} candles",
        increasing={"line": {"color": BLUE, "width": 1}, "fillcolor": CARD},
        decreasing={"line": {"color": BLUE, "width": 1}, "fillcolor": BLUE},
        opacity=0.75,
    )


def _markers(trades: pl.DataFrame) -> list[go.Scatter]:
    if trades.is_empty():
        return []
    long = (trades["side"] == "long").to_numpy()
    entries = _marks(trades, "entry", np.where(long, "triangle-up", "triangle-down"), INK, "Entry (▲ long, ▼ short)")
    return [entries, _marks(trades, "exit", np.full(trades.height, "x-thin"), ORANGE, "Exit")]


def _marks(trades: pl.DataFrame, end: str, symbols: np.ndarray, colour: str, name: str) -> go.Scatter:
    texts = [
        f"{row['side']} {number(row['quantity'])} at {number(row[f'{end}_price'])}<br>"
        f"trade {percent(row['return'])}, {row['sample']} of sample"
        for row in trades.iter_rows(named=True)
    ]
    return go.Scatter(
        x=epoch_ms(trades[f"{end}_timestamp"]),
        y=trades[f"{end}_price"].to_numpy(),
        mode="markers",
        name=name,
        marker={"symbol": symbols.tolist(), "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
