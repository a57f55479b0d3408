"""The quality calendar: one row a symbol and day, for a heatmap. Reads the lake, writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import polars as pl

from lake.calendar import TradingCalendar
from lake.coverage import Ledger, Reason
from lake.store import Lake
from lake.timeline import interval as interval_named
from lake.timeline import utc
from tasks.quality import quarantine
from tasks.quality.expected import expected_opens, listings
from tasks.quality.plan import Market
from tasks.quality.verdicts import current

#: `rows` of `expected_rows` bars are there, and `bad_rows`, absent ones included, lie in quarantine; `absence` says in
#: the ledger's words why others are not there; `status` is the day's, `partition_status` that of its partition.
DAYS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "day": pl.Date(),
    "rows": pl.Int64(),
    "expected_rows": pl.Int64(),
    "bad_rows": pl.Int64(),
    "absence": pl.String(),
    "status": pl.String(),
    "partition_status": pl.String(),
}
_EXPLAINED = (Reason.NOT_CLOSED, Reason.BEFORE_LISTING, Reason.MARKET_CLOSED)


def quality_calendar(
    lake: Lake,
    interval: str,
    start: datetime,
    end: datetime,
    *,
    symbols: Sequence[str] | None = None,
    markets: Mapping[str, Market] | None = None,
) -> pl.DataFrame:
    """Return the quality of each day in ``[start, end)`` on which a bar is there or expected.

    `status` is `reject` where a bar of that day is in quarantine, `released` where its partition was released,
    `warn` where a warning points at the day, `unjudged` where no verdict covers it, else `pass`.

    Args:
        lake: Where bars, ledger, verdicts and quarantine are.
        interval: Which bars.
        start: First instant.
        end: First instant after the range.
        symbols: Only these; all that have bars or verdicts by default.
        markets: Calendars by symbol; a market that never closes by default.

    Returns:
        Columns of `DAYS`, sorted by symbol and day.
    """
    start, end = utc(start), utc(end)
    verdicts = current(lake, interval, symbols, start, end)
    names = sorted({*lake.symbols(interval), *verdicts["symbol"]} if symbols is None else set(symbols))
    counted = _counted(lake, interval, names, start, end)
    bad = _by_day(quarantine.read(lake, interval), "bad_rows").filter(pl.col("symbol").is_in(names))
    frames = [pl.DataFrame(schema=DAYS)]
    for name in names:
        calendar = (markets or {}).get(name, Market()).calendar
        own = [frame.filter(pl.col("symbol") == name) for frame in (counted, bad, verdicts)]
        frames.append(_symbol_days(lake, interval, start, end, name, calendar, *own))
    return pl.concat(frames).sort("symbol", "day")


def _counted(lake: Lake, interval: str, names: list[str], start: datetime, end: datetime) -> pl.DataFrame:
    days = lake.scan_bars(interval, names, start, end).group_by("symbol", pl.col("timestamp").dt.date().alias("day"))
    return days.agg(rows=pl.len().cast(pl.Int64)).collect(engine="streaming")


def _by_day(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    days = rows.group_by("symbol", pl.col("timestamp").dt.date().alias("day"))
    return days.agg(pl.len().cast(pl.Int64).alias(name))


def _symbol_days(
    lake: Lake,
    interval: str,
    start: datetime,
    end: datetime,
    symbol: str,
    calendar: str,
    counted: pl.DataFrame,
    bad: pl.DataFrame,
    verdicts: pl.DataFrame,
) -> pl.DataFrame:
    closed = interval_named(interval).closed_end(lake.now())
    listed_at = listings(Ledger(lake).records(interval, symbol)).get(symbol)
    opens = expected_opens(calendar, interval, start, max(start, min(end, closed)), listed_at)
    expected = _by_day(pl.DataFrame({"symbol": [symbol], "timestamp": [opens]}).explode("timestamp"), "expected_rows")
    days = expected.filter(pl.col("day").is_not_null()).join(counted, on=["symbol", "day"], how="full", coalesce=True)
    days = days.join(bad, on=["symbol", "day"], how="left").with_columns(
        pl.col("rows", "expected_rows", "bad_rows").fill_null(0)
    )
    absences = _absence_days(lake, interval, start, end, symbol, calendar)
    days = days.join(absences, on="day", how="left").with_columns(
        absence=pl.when(pl.col("rows") < pl.col("expected_rows")).then("absence")
    )
    states = [_state(day, rows, verdicts) for day, rows in days.select("day", "bad_rows").iter_rows()]
    named = pl.DataFrame(states, schema={"status": pl.String(), "partition_status": pl.String()}, orient="row")
    return days.hstack(named).select(pl.col(name).cast(kind) for name, kind in DAYS.items())


def _absence_days(
    lake: Lake, interval: str, start: datetime, end: datetime, symbol: str, calendar: str
) -> pl.DataFrame:
    """Return for each day the reasons of its absent bars, joined; days without such a bar are left out."""
    hours = TradingCalendar.parse(calendar)
    found = Ledger(lake).absences(symbol, interval, start, end, calendar=hours)
    found = found.filter(~pl.col("reason").is_in([reason.value for reason in _EXPLAINED]))
    last = (pl.col("end") - pl.duration(microseconds=1)).dt.date()
    spread = found.select("reason", day=pl.date_ranges(pl.col("start").dt.date(), last)).explode("day")
    return spread.group_by("day").agg(absence=pl.col("reason").unique().sort().str.join(", "))


def _state(day: date, bad_rows: int, verdicts: pl.DataFrame) -> tuple[str, str]:
    """Return the day's status and that of the partition that holds it."""
    # a day belongs to the partition that holds any of it; partitions shorter than a day are rare, the worst one counts
    midnight = utc(day)
    own = verdicts.filter((pl.col("partition_start").dt.date() <= day) & (pl.col("partition_end") > midnight))
    if not own.height:
        return "unjudged", "unjudged"
    ranks = {"reject": 3, "released": 2, "warn": 1, "pass": 0}
    states = ["released" if row["released"] and row["status"] == "reject" else row["status"] for row in own.to_dicts()]
    partition = max(states, key=lambda state: ranks[state])
    if bad_rows:
        return ("released" if partition == "released" else "reject"), partition
    return ("warn" if day in _warned_days(own["findings_json"]) else "pass"), partition


def _warned_days(findings_json: pl.Series) -> set[date]:
    return {
        datetime.fromisoformat(moment).date()
        for text in findings_json
        for finding in json.loads(text)
        if finding["severity"] == "warn"
        for moment in finding["sample"]
    }
