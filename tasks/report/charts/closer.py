"""A closer look at single trades, bar by bar: the best, the worst, the longest and the latest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import plotly.graph_objects as go
import polars as pl

from tasks.report.charts.price import price_figure
from tasks.report.words import duration, percent

MAX_CANDLES = 260
#: Bars shown before the entry and after the exit.
PADDING = 20


@dataclass(frozen=True, slots=True)
class Close:
    """One trade under the glass: what makes it worth a look, and its chart."""

    title: str
    figure: go.Figure


def closer_figures(bars: pl.DataFrame, interval: str, trades: pl.DataFrame) -> list[Close]:
    """Return the charts of up to four notable trades, each trade once; none where there are no bars or trades."""
    if bars.is_empty() or trades.is_empty():
        return []
    numbered = trades.with_row_index("number").with_columns(held=pl.col("exit_timestamp") - pl.col("entry_timestamp"))
    notable = {
        "Best trade": numbered.sort("return", descending=True),
        "Worst trade": numbered.sort("return"),
        "Longest trade": numbered.sort("held", descending=True),
        "Latest trade": numbered.sort("entry_timestamp", descending=True),
    }
    seen: set[int] = set()
    found = []
    for title, ranked in notable.items():
        trade = ranked.head(1)
        if trade["number"][0] not in seen:
            seen.add(trade["number"][0])
            found.append(_close(title, bars, interval, trade))
    return [close for close in found if close is not None]


def _close(title: str, bars: pl.DataFrame, interval: str, trade: pl.DataFrame) -> Close | None:
    entry, exit_ = trade["entry_timestamp"][0], trade["exit_timestamp"][0]
    first = max(int(bars["timestamp"].search_sorted(entry)) - PADDING, 0)
    last = int(bars["timestamp"].search_sorted(exit_, side="right")) + PADDING
    figure = price_figure(bars.slice(first, last - first), interval, trade.drop("number", "held"), limit=MAX_CANDLES)
    if figure is None:
        return None
    held: timedelta = trade["held"][0]
    return Close(f"{title}: {trade['side'][0]}, {percent(trade['return'][0])} in {duration(held)}", figure)
