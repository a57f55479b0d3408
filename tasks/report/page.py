"""The report of one sweep as a single HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import plotly.graph_objects as go
import polars as pl

from tasks.errors import InputError
from tasks.report import robustness, summary, tables, words
from tasks.report.charts import calendar, chance, closer, equity, grid, parallel, price, returns
from tasks.report.document import document
from tasks.sweep.result import SweepResult


def render(
    result: SweepResult,
    bars: pl.DataFrame,
    quality: pl.DataFrame,
    coverage: Mapping[str, object],
    days: pl.DataFrame | None = None,
) -> str:
    """Return the report as one self-contained page of less than 5 MB.

    Args:
        result: The finished sweep.
        bars: The bars it ran on, `lake.schema.BARS`.
        quality: Verdict rows of the partitions it ran on, as `quality/verdicts` has them; may be empty.
        coverage: How complete the bars are, name to figure (``bars``, ``expected_bars``, ``missing_bars``, …).
        days: Quality of each day (``symbol``, ``day``, ``rows``, ``expected_rows``, ``status``), of one symbol or of
            several; None for a page without a quality calendar.

    Raises:
        InputError: The result has no equity, so there is nothing to report.
    """
    if result.equity.is_empty():
        raise InputError(f"report: expected equity rows in run {result.run_id}, found none; run the sweep again")
    closer_looks = closer.closer_figures(bars, result.interval, _out_of_sample(result.trades))
    heat = grid.heat_data(result.grid, result.param_names, result.params)
    charts = _charts(result, bars) | {f"closer-{n}": look.figure for n, look in enumerate(closer_looks)}
    if robustness.FAN in result.extras:
        charts["fan"] = chance.fan_figure(result.extras[robustness.FAN], result.equity)
    if robustness.COSTS in result.extras:
        charts["costs"] = chance.costs_figure(result.extras[robustness.COSTS])
    if days is not None:
        charts["calendar"] = calendar.calendar_figure(days)
    if heat is not None:
        charts["heat"] = grid.heat_figure()
    drawn = {name: figure for name, figure in charts.items() if figure is not None}
    looks = [(f"closer-{n}", look.title) for n, look in enumerate(closer_looks)]
    return document(
        "report.html.j2", drawn, heat=heat, closer_looks=looks, **_context(result, bars, quality, coverage, drawn)
    )


def _charts(result: SweepResult, bars: pl.DataFrame) -> dict[str, go.Figure | None]:
    spans, names = test_spans(result.windows), result.param_names
    return {
        "equity-out": equity.equity_figure(result.equity, "out", spans),
        "equity-in": equity.equity_figure(result.equity, "in"),
        "returns": returns.returns_figure(result.equity),
        "parallel": parallel.parallel_figure(result.grid, names, result.params),
        "scatter": grid.scatter_figure(result.grid, names, result.params),
        "price": price.price_figure(
            _out_span(bars, result.equity), result.interval, _out_of_sample(result.trades), spans
        ),
    }


def test_spans(windows: pl.DataFrame) -> list[tuple[datetime, datetime]]:
    """Return the test span of each walk-forward window, in order."""
    if windows.is_empty() or not {"test_start", "test_end"} <= set(windows.columns):
        return []
    return windows.sort("test_start").select("test_start", "test_end").rows()


def _costs(result: SweepResult) -> tuple[str, tables.Table] | None:
    costs = result.extras.get(robustness.COSTS)
    return None if costs is None else (robustness.costs_sentence(costs), tables.table_of(costs))


def _out_of_sample(trades: pl.DataFrame) -> pl.DataFrame:
    return trades.filter(pl.col("sample") == "out")


def _out_span(bars: pl.DataFrame, equity_rows: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of the out-of-sample span, all of them where there is none."""
    out = equity_rows.filter(pl.col("sample") == "out")["timestamp"]
    return bars.filter(pl.col("timestamp").is_between(out.min(), out.max())) if out.len() else bars


def _context(
    result: SweepResult,
    bars: pl.DataFrame,
    quality: pl.DataFrame,
    coverage: Mapping[str, object],
    charts: Mapping[str, go.Figure],
) -> dict[str, Any]:
    first, last = result.equity.select(pl.col("timestamp").min(), pl.col("timestamp").max().alias("last")).row(0)
    return {
        "result": result,
        "first": words.moment(first),
        "last": words.moment(last),
        "bars_count": words.count(bars.height),
        "combinations": words.count(result.grid.height),
        "params": summary.params_text(result),
        "headline": summary.result_table(result),
        "further": summary.further_figures(result),
        "tiles": tiles(result),
        "details": [(words.word(name), words.spell(name, value)) for name, value in result.verdict_details.items()],
        "rank_words": rank_words(result.grid),
        "edge_words": edge_words(result.grid, result.params),
        "price_meta": charts["price"].layout["meta"] if "price" in charts else {},
        "scatter_meta": charts["scatter"].layout["meta"] if "scatter" in charts else {},
        "returns_period": charts["returns"].layout["meta"]["period"] if "returns" in charts else "",
        "trades": tables.trades_table(result.trades),
        "trade_figures": tables.trade_figures(result.trades),
        "windows": tables.windows_table(result.windows, result.param_names),
        "data_warning": tables.quality_warning(quality),
        "quality": tables.quality_rows(quality),
        "costs": _costs(result),
        "chance": robustness.chance_table(result),
        "chance_notes": robustness.chance_notes(result),
        "extras": [
            (words.word(name).title, tables.table_of(frame))
            for name, frame in result.extras.items()
            if name not in robustness.KNOWN
        ],
        "coverage": [(words.word(name), words.spell(name, value)) for name, value in coverage.items()],
        "record": tables.record_rows(result.record),
    }


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline figure with what it should be held against."""

    word: words.Word
    value: str
    aside: str


#: A growth a year that a shorter span is blown up to misleads more than it tells.
ANNUAL_FROM = timedelta(days=365)


def tiles(result: SweepResult) -> list[Tile]:
    """Return the out-of-sample headline; each figure beside its in-sample twin or the benchmark."""
    asides = {name: f"in sample {_brief(name, value)}" for name, value in summary.in_sample(result).items()}
    if "benchmark_return" in result.metrics:
        asides["total_return"] = f"vs hold {_brief('benchmark_return', result.metrics['benchmark_return'])}"
    out = result.equity.filter(pl.col("sample") == "out")["timestamp"]
    long = out.len() and out.max() - out.min() >= ANNUAL_FROM  # type: ignore[operator]
    names = ("sharpe", "total_return", *(("annual_return",) if long else ()), "max_drawdown", "trades", "win_rate")
    return [
        Tile(words.word(name), words.spell(name, result.metrics[name]), asides.get(name, ""))
        for name in (*names, "exposure")
        if name in result.metrics
    ]


def _brief(name: str, value: float) -> str:
    return words.percent(value, 1) if words.word(name).kind == "percent" else words.spell(name, value)


def rank_words(rows: pl.DataFrame) -> str:
    """Say what being good in sample tells about out of sample, and whether anything was good at all."""
    correlation = grid.rank_correlation(rows)
    if correlation is None:
        return ""
    strength = "carries over" if correlation >= 0.5 else "partly carries over" if correlation >= 0.2 else "is lost"
    said = f"Rank correlation {words.ratio(correlation)}: the order of the sets in sample {strength} out of sample."
    positive = rows.filter(pl.col("is_sharpe").is_finite() & (pl.col("is_sharpe") > 0)).height
    return said if positive else f"{said} No set has a Sharpe above zero in sample."


def edge_words(rows: pl.DataFrame, winner: Mapping[str, Any]) -> str:
    """Say which parameters of the winner are the lowest or highest tried, empty where none is; two have no inside."""
    ends = []
    for name, value in winner.items():
        tried = rows[name].drop_nulls().unique().sort() if name in rows.columns else pl.Series()
        if len(tried) > 2 and tried.dtype.is_numeric() and value in (tried[0], tried[-1]):
            ends.append(f"{name} at its {'lowest' if value == tried[0] else 'highest'}")
    return f"It stands at the edge of what was tried ({', '.join(ends)}): better sets may lie beyond." if ends else ""
