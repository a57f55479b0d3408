"""How complete the bars of a run are, measured against the calendar they were swept with."""

from __future__ import annotations

import polars as pl

from lake.calendar import TradingCalendar
from lake.timeline import interval as interval_named


def calendar_named(name: str) -> TradingCalendar:
    """Return the calendar that a run's record names: ``24/7``, an exchange code, or a calendar's own text.

    Raises:
        InputError: The name is none of these.
    """
    if name in ("24/7", "always_open"):
        return TradingCalendar.always_open()
    if name.startswith(("exchange:", "{")):
        return TradingCalendar.parse(name)
    return TradingCalendar.from_exchange(name)


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
