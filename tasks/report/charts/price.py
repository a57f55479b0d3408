"""The price as candles with the trades on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.theme import BLUE, CARD, GREY, INK, ORANGE, borders, epoch_ms, styled
from tasks.report.thin import MAX_CANDLES, candle_interval, candles, latest
from tasks.report.words import number, percent


def price_figure(
    bars: pl.DataFrame,
    interval: str,
    trades: pl.DataFrame,
    spans: Sequence[tuple[datetime, datetime]] = (),
    *,
    limit: int = MAX_CANDLES,
) -> go.Figure | None:
    """Draw candles, resampled until they fit a page, with entries and exits at their fill prices.

    Args:
        bars: The symbol's bars, `lake.schema.BARS`.
        interval: Their interval.
        trades: Rows as `tasks.sweep.result.TRADES` has them; of many, the latest few hundred are drawn,
            on the bars they span.
        spans: Test spans of the walk-forward windows.
        limit: Most candles drawn.

    Returns:
        The figure, None where there are no bars; `layout.meta` tells the candles' interval, the trades drawn and how
        many there are.
    """
    if bars.is_empty():
        return None
    shown = latest(trades)
    if shown.height < trades.height:
        bars = bars.filter(pl.col("timestamp") >= shown["entry_timestamp"][0])
    coarse = candle_interval(bars, interval, limit)
    figure = go.Figure([_candles(candles(bars, coarse), coarse), *_markers(shown)])
    figure.update_layout(
        meta={"interval": coarse, "trades_drawn": shown.height, "trades": trades.height},
        xaxis={"type": "date", "rangeslider": {"visible": False}},
        yaxis={"title": {"text": "Price"}},
    )
    return borders(styled(figure, height=480), spans)


def _candles(frame: pl.DataFrame, interval: str) -> go.Candlestick:
    return go.Candlestick(
        x=epoch_ms(frame["timestamp"]),
        **{name: frame[name].to_numpy().astype(np.float32) for name in ("open", "high", "low", "close")},
        name=f"Price, {interval} candles",
        increasing={"line": {"color": GREY, "width": 1}, "fillcolor": CARD},
        decreasing={"line": {"color": GREY, "width": 1}, "fillcolor": GREY},
    )


def _markers(trades: pl.DataFrame) -> list[go.Scatter]:
    """Draw each trade as a line from fill to fill: blue where it won, orange and dashed where it lost."""
    if trades.is_empty():
        return []
    long = (trades["side"] == "long").to_numpy()
    won, lost = trades.filter(pl.col("pnl") > 0), trades.filter(pl.col("pnl") <= 0)
    return [
        _paths(won, "Winning trade", {"color": BLUE, "width": 2}),
        _paths(lost, "Losing trade", {"color": ORANGE, "width": 2, "dash": "dot"}),
        _marks(trades, "entry", np.where(long, "triangle-up", "triangle-down"), "Entry (▲ long, ▼ short)"),
        _marks(trades, "exit", np.full(trades.height, "circle-open"), "Exit"),
    ]


def _paths(trades: pl.DataFrame, name: str, line: dict[str, object]) -> go.Scatter:
    """Return one line a trade, kept apart by NaN."""
    gap = np.full(trades.height, np.nan)
    ends = [epoch_ms(trades["entry_timestamp"]), epoch_ms(trades["exit_timestamp"]), gap]
    prices = [trades["entry_price"].to_numpy(), trades["exit_price"].to_numpy(), gap]
    return go.Scatter(
        x=np.column_stack(ends).ravel(),
        y=np.column_stack(prices).ravel(),
        mode="lines",
        name=name,
        line=line,
        hoverinfo="skip",
    )


def _marks(trades: pl.DataFrame, end: str, symbols: np.ndarray, name: str) -> go.Scatter:
    texts = [
        f"{end}: {row['side']} {number(row['quantity'])} at {number(row[f'{end}_price'])}<br>"
        f"trade made {percent(row['return'])}"
        for row in trades.iter_rows(named=True)
    ]
    return go.Scatter(
        x=epoch_ms(trades[f"{end}_timestamp"]),
        y=trades[f"{end}_price"].to_numpy(),
        mode="markers",
        name=name,
        marker={"symbol": symbols.tolist(), "size": 8, "color": INK, "line": {"width": 1.5, "color": INK}},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
