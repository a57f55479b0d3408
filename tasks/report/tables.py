"""Frames as the report's tables: heads with their meaning, cells already spelled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from tasks.report.words import MISSING, Word, count, duration, moment, percent, ratio, spell, word

MAX_ROWS = 300
WINDOW_FIGURES = ("is_sharpe", "oos_sharpe", "is_total_return", "oos_total_return", "oos_max_drawdown", "oos_trades")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its head, the head's meaning, and whether its cells are numbers."""

    title: str
    meaning: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the template draws it; `note` says what was left out, empty where nothing was."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def table_of(frame: pl.DataFrame, names: Sequence[str] | None = None, *, note: str = "") -> Table:
    """Return the named columns of `frame`, each cell spelled by its column's kind."""
    frame = frame.select([name for name in names or frame.columns if name in frame.columns])
    columns = tuple(
        Column(word(name).title, word(name).meaning, frame.schema[name].is_numeric()) for name in frame.columns
    )
    rows = tuple(
        tuple(spell(name, value) for name, value in zip(frame.columns, row, strict=True)) for row in frame.iter_rows()
    )
    return Table(columns, rows, note)


_TRADE_COLUMNS = (
    "entry_timestamp",
    "exit_timestamp",
    "side",
    "quantity",
    "entry_price",
    "exit_price",
    "fees",
    "pnl",
    "return",
    "window",
)


def trades_table(trades: pl.DataFrame, limit: int = MAX_ROWS) -> Table | None:
    """Return the out-of-sample trades, the latest `limit` of them; None where there are none."""
    out = trades.filter(pl.col("sample") == "out").sort("entry_timestamp")
    if out.is_empty():
        return None
    note = ""
    if out.height > limit:
        note = f"The latest {count(limit)} of {count(out.height)} out-of-sample trades; all of them are in the lake."
    return table_of(out.tail(limit), _TRADE_COLUMNS, note=note)


def trade_figures(trades: pl.DataFrame) -> list[tuple[Word, str]]:
    """Return what the out-of-sample trades say together: averages, extremes, holding time, profit factor."""
    out = trades.filter(pl.col("sample") == "out")
    if out.is_empty():
        return []
    returns, pnl = out["return"].to_numpy(), out["pnl"].to_numpy()
    won, lost = float(pnl[pnl > 0].sum()), -float(pnl[pnl < 0].sum())
    held = out.select((pl.col("exit_timestamp") - pl.col("entry_timestamp")).median()).item()
    return [
        (Word("Average trade", "percent", "Mean return of a trade after fees."), percent(returns.mean(), 3)),
        (Word("Median trade", "percent", "Half of the trades did better."), percent(np.median(returns), 3)),
        (Word("Best trade", "percent", "Highest return of one trade."), percent(returns.max())),
        (Word("Worst trade", "percent", "Lowest return of one trade."), percent(returns.min())),
        (word("profit_factor"), ratio(won / lost) if lost else MISSING),
        (Word("Median holding time", "text", "From entry to exit; half were held longer."), duration(held)),
    ]


def windows_table(windows: pl.DataFrame, params: Sequence[str]) -> Table | None:
    """Return the walk-forward windows, one row each, None where there are none.

    Spans and the chosen parameters take one column each, so that the figures of both samples fit beside them.
    """
    if windows.is_empty():
        return None
    figures = [name for name in WINDOW_FIGURES if name in windows.columns]
    text = [Column("Window"), Column("Train", numeric=False), Column("Test", numeric=False)]
    chosen = Column("Chosen on train", "The set with the best Sharpe on the train span.", numeric=False)
    between = ", " if len(params) < 3 else "\n"
    columns = (*text, chosen, *(Column(_short(name), word(name).meaning) for name in figures))
    rows = tuple(
        (
            str(number),
            _span(row["train_start"], row["train_end"]),
            _span(row["test_start"], row["test_end"]),
            between.join(f"{name} {spell('', row[name])}" for name in params if name in row),
            *(spell(name, row[name]) for name in figures),
        )
        for number, row in enumerate(windows.sort("test_start").iter_rows(named=True))
    )
    return Table(columns, rows)


def _short(name: str) -> str:
    """Return the title of a windows column: the sample behind the figure, as narrow as it reads."""
    sample, _, figure = name.partition("_")
    title = word(figure).title.removeprefix("Total ").removeprefix("Max ").capitalize()
    return f"{title} {'in' if sample == 'is' else 'out'}"


def _span(start: datetime, end: datetime) -> str:
    """Return both ends on a line each; days alone where the span has many."""
    days = end - start >= timedelta(days=3)
    return "\n".join(f"{end:%Y-%m-%d}" if days else moment(end) for end in (start, end))


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One partition's data quality as the report shows it; a rejected one that a person let pass is ``released``."""

    symbol: str
    interval: str
    span: str
    status: str
    rows: str
    findings: tuple[str, ...]


def newest(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return the latest verdict of each partition, rejected ones first, then warnings, then by time."""
    if verdicts.is_empty():
        return verdicts
    keys = ["symbol", "interval", "partition_start", "partition_end"]
    latest = verdicts.sort("checked_at").unique(keys, keep="last")
    rank = pl.col("status").replace_strict({"reject": 0, "warn": 1}, default=2, return_dtype=pl.Int8)
    return latest.sort(rank, *keys)


def quality_rows(verdicts: pl.DataFrame) -> list[VerdictRow]:
    """Return the latest verdicts as rows of the page's table."""
    return [
        VerdictRow(
            row["symbol"],
            row["interval"],
            f"{moment(row['partition_start'])} to {moment(row['partition_end'])}",
            "released" if row["status"] == "reject" and row.get("release_reason") else row["status"],
            f"{count(row['rows'])} of {count(row['expected_rows'])}",
            _findings(row["findings_json"]) + _release(row.get("release_reason")),
        )
        for row in newest(verdicts).iter_rows(named=True)
    ]


def quality_warning(verdicts: pl.DataFrame) -> str:
    """Say in one sentence what speaks against the data, empty where every verdict passed."""
    if verdicts.is_empty():
        return "No quality verdict covers these bars: they were used unchecked."
    rows = newest(verdicts).to_dicts()
    released = sum(row["status"] == "reject" and bool(row.get("release_reason")) for row in rows)
    rejected = sum(row["status"] == "reject" for row in rows) - released
    warned = sum(row["status"] == "warn" for row in rows)
    said = (
        ("rejected", rejected, ""),
        ("rejected", released, " that a person released"),
        ("warned about", warned, ""),
    )
    parts = [f"{verb} {number}{tail}" for verb, number, tail in said if number]
    return f"Of {count(len(rows))} partition{'s' * (len(rows) > 1)} quality {' and '.join(parts)}." if parts else ""


def _findings(text: str | None) -> tuple[str, ...]:
    """Return one line a finding: ``rule (severity, rows): message``."""
    found = json.loads(text or "[]")
    return tuple(
        f"{item.get('rule', '?')} ({item.get('severity', '?')}, {count(item.get('rows'))} rows): "
        f"{item.get('message', '')}"
        for item in found
    )


def _release(reason: str | None) -> tuple[str, ...]:
    return (f"released by a person: {reason}",) if reason else ()


def record_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the run's record as pairs of name and text; nested values as JSON."""
    return [(name.replace("_", " "), _plain(value)) for name, value in record.items()]


def _plain(value: Any) -> str:
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return spell("", value) if isinstance(value, bool) else str(value)
