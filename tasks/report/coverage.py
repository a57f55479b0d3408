"""How complete the bars of a run are, measured against the calendar they were swept with."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from lake.calendar import TradingCalendar
from lake.timeline import interval as interval_named
from lake.timeline import utc


def coverage(bars: pl.DataFrame, interval: str, calendar: TradingCalendar) -> dict[str, object]:
    """Return how many bars the calendar promises over the span of `bars`, how many lack, and the longest gap.

    A gap counts expected bars alone: a night or a holiday is none.

    Args:
        bars: `lake.schema.BARS`, sorted.
        interval: Their length.
        calendar: When the market is open.
    """
    if bars.is_empty():
        return {"bars": 0}
    first, last = bars["timestamp"][0], bars["timestamp"][-1]
    expected = calendar.expected_opens(interval, first, interval_named(interval).next(last)).to_frame("timestamp")
    here = expected.with_columns(missing=~pl.col("timestamp").is_in(bars["timestamp"].implode()))
    missing = int(here["missing"].sum())
    found: dict[str, object] = {
        "bars": bars.height,
        "first_bar": first,
        "last_bar": last,
        "expected_bars": expected.height,
        "missing_bars": missing,
    }
    if missing:
        runs = here.filter("missing").group_by(here["missing"].rle_id().filter(here["missing"]).alias("run"))
        longest = runs.agg(pl.len(), pl.col("timestamp").min()).sort("len", "timestamp", descending=[True, False])
        found |= {"longest_gap_bars": longest["len"][0], "longest_gap_began": longest["timestamp"][0]}
    return found


def quality_days(
    bars: pl.DataFrame,
    symbol: str,
    interval: str,
    calendar: TradingCalendar,
    verdicts: pl.DataFrame,
    quarantined: pl.Series,
) -> pl.DataFrame:
    """Return the quality of each day with expected bars: how many there are, and what quality said about it.

    ``reject`` where a bar of the day lies in quarantine, ``released`` where its partition was released since, ``warn``
    where a warning's samples point at the day (a verdict keeps the first few), ``unjudged`` where no verdict covers
    the day, else ``pass``.

    Args:
        bars: The bars of the run.
        symbol: For the first column.
        interval: Their length.
        calendar: When the market is open.
        verdicts: Verdict rows, with `release_reason` where a person released some.
        quarantined: Opens of the bars in quarantine.

    Returns:
        Columns ``symbol``, ``day``, ``rows``, ``expected_rows``, ``status``, as the quality calendar draws them.
    """
    if bars.is_empty():
        return pl.DataFrame()
    first, last = bars["timestamp"][0], bars["timestamp"][-1]
    expected = calendar.expected_opens(interval, first, interval_named(interval).next(last)).to_frame("timestamp")
    there = expected.with_columns(
        here=pl.col("timestamp").is_in(bars["timestamp"].implode()), day=pl.col("timestamp").dt.date()
    )
    days = there.group_by("day", maintain_order=True).agg(
        rows=pl.col("here").sum().cast(pl.Int64), expected_rows=pl.len().cast(pl.Int64)
    )
    bad, judged = set(quarantined.dt.date()), [_Judged.of(row) for row in verdicts.to_dicts()]
    states = [_state([verdict for verdict in judged if verdict.holds(day)], day, day in bad) for day in days["day"]]
    return days.select(pl.lit(symbol).alias("symbol"), "day", "rows", "expected_rows", status=pl.Series(states))


@dataclass(frozen=True, slots=True)
class _Judged:
    """A verdict as the calendar needs it: the days it holds for, and those its warnings point at."""

    first: date
    end: datetime
    rejected: bool
    released: bool
    warned: frozenset[date]

    @classmethod
    def of(cls, row: dict[str, Any]) -> _Judged:
        warnings = (found for found in json.loads(row["findings_json"] or "[]") if found["severity"] == "warn")
        days = frozenset(datetime.fromisoformat(at).date() for found in warnings for at in found.get("sample", ()))
        released = bool(row.get("release_reason"))
        return cls(row["partition_start"].date(), row["partition_end"], row["status"] == "reject", released, days)

    def holds(self, day: date) -> bool:
        return self.first <= day and self.end > utc(day)


def _state(own: list[_Judged], day: date, bad: bool) -> str:
    if not own:
        return "unjudged"
    if bad:
        return "released" if all(verdict.released for verdict in own if verdict.rejected) else "reject"
    return "warn" if any(day in verdict.warned for verdict in own) else "pass"


def missing_reasons(bars: pl.DataFrame, expected: pl.Series, absences: pl.DataFrame) -> dict[str, int]:
    """Return how many expected bars are missing for which reason, the commonest first.

    Args:
        bars: The bars of the run.
        expected: Every open that the calendar promises over their span.
        absences: Runs of absent bars with their reasons, `lake.coverage.Ledger.absences`; a bar that the lake has by
            now but the run had not is ``fetched_since``.
    """
    missing = expected.to_frame("timestamp").join(bars, on="timestamp", how="anti").sort("timestamp")
    placed = missing.join_asof(absences.sort("start"), left_on="timestamp", right_on="start")
    inside = pl.col("timestamp") < pl.col("end")
    reasons = placed.select(reason=pl.when(inside).then("reason").otherwise(pl.lit("fetched_since")))
    return dict(reasons.group_by("reason").len("bars").sort("bars", "reason", descending=[True, False]).iter_rows())


#: What lies at most this many bars from a gap may owe its price to it.
NEAR_BARS = 10
#: Where gains and losses nearly cancel out, a share of what is left of them says nothing.
ABOUT_ZERO = 0.01


def near_gaps(
    trades: pl.DataFrame, equity: pl.DataFrame, bars: pl.DataFrame, expected: pl.Series
) -> dict[str, float | str]:
    """Return how much of the out-of-sample result lies near a missing bar.

    That is its trades, their profit, the bars' return, and that return's share of the whole.

    Args:
        trades: Rows as `tasks.sweep.result.TRADES` has them.
        equity: Rows as `tasks.sweep.result.EQUITY` has them.
        bars: The bars of the run.
        expected: Every open that the calendar promises over their span; distances are counted in these.
    """
    missing = np.flatnonzero(~expected.is_in(bars["timestamp"].implode()).to_numpy())
    out, curve = (rows.filter(pl.col("sample") == "out") for rows in (trades, equity))
    if not len(missing) or out.is_empty():
        return {}
    near = _close_to(missing, expected, out["entry_timestamp"]) | _close_to(missing, expected, out["exit_timestamp"])
    growth = (curve["equity"] / curve["equity"].shift(1, fill_value=1.0)).to_numpy()
    beside = growth[_close_to(missing, expected, curve["timestamp"])].prod()
    return {
        "trades_near_a_gap": int(near.sum()),
        "profit_near_a_gap": float(out["pnl"].to_numpy()[near].sum()),
        "return_near_a_gap": float(beside - 1),
        "share_near_a_gap": _share(beside, growth.prod()),
    }


def _share(part: float, whole: float) -> float | str:
    """Return which share of the growth a part of the bars made; in logarithms, so that all shares add up to one."""
    if not (part > 0 and whole > 0):  # of nothing no growth is a number
        return "none: the account was lost"
    if abs(math.log(whole)) < ABOUT_ZERO:
        return "none: the total return is about zero"
    return math.log(part) / math.log(whole)


def _close_to(missing: np.ndarray, expected: pl.Series, moments: pl.Series) -> np.ndarray:
    """Return which moments lie within `NEAR_BARS` expected bars of a missing one."""
    places = expected.search_sorted(moments).to_numpy()
    after = np.searchsorted(missing, places)
    distances = [np.abs(places - missing[np.clip(after + step, 0, len(missing) - 1)]) for step in (-1, 0)]
    return np.minimum(*distances) <= NEAR_BARS
