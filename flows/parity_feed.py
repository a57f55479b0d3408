"""Bars as they were known at the time: the newest table with every later correction taken back, then told when seen."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from flows.parity_paths import Case
from flows.parity_replay import Arrival
from lake.bars import VALUES


def arrivals(case: Case, corrections: pl.DataFrame) -> list[Arrival]:
    """Return the period's bars as they closed, and corrections as they were seen.

    Args:
        case: The period.
        corrections: Rows of `lake.revisions.revisions`; may be empty.
    """
    told = as_first_seen(case, corrections)
    fed = [Arrival(told[row : row + 1], case.closes_at(row)) for row in range(case.first, len(case.stamps) - 1)]
    end = case.stamps[-1]
    began, restated = case.stamps[case.first], []
    for moment in corrections["seen_at"].unique().sort():
        if began < moment <= end:
            seen = known_at(case.bars, corrections, moment)
            restated.append(Arrival(seen.join(_corrected_at(corrections, moment), on="timestamp", how="semi"), moment))
    closed = [_closed(one, case) for one in restated]
    return sorted([*fed, *(one for one in closed if one.bars.height)], key=lambda one: one.at)


def as_first_seen(case: Case, corrections: pl.DataFrame) -> pl.DataFrame:
    """Return every bar of a case as it was known when it closed; those before the period, when the period began."""
    if corrections.is_empty():
        return case.bars
    began = case.stamps[case.first]
    closes = {case.stamps[row]: max(case.closes_at(row), began) for row in range(len(case.stamps))}
    later = corrections.filter(pl.col("seen_at") > pl.col("timestamp").replace_strict(closes, default=began))
    return _taken_back(case.bars, later)


def known_at(bars: pl.DataFrame, corrections: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Return the bars with every correction taken back that was seen after `moment`."""
    return _taken_back(bars, corrections.filter(pl.col("seen_at") > moment))


def _taken_back(bars: pl.DataFrame, corrections: pl.DataFrame) -> pl.DataFrame:
    """Put the oldest of the given old values in the place of the new ones."""
    oldest = corrections.sort("version", maintain_order=True).unique(["timestamp", "column"], keep="first")
    for name in VALUES:
        old = oldest.filter(pl.col("column") == name).select("timestamp", "old", was=True)
        if old.height:
            bars = bars.join(old, on="timestamp", how="left", maintain_order="left")
            bars = bars.with_columns(pl.when(pl.col("was")).then("old").otherwise(name).alias(name)).drop("old", "was")
    return bars


def _corrected_at(corrections: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    return corrections.filter(pl.col("seen_at") == moment).select("timestamp").unique()


def _closed(arrival: Arrival, case: Case) -> Arrival:
    """Leave out what had not closed when the correction was seen: it arrives at its close."""
    rows = {stamp: row for row, stamp in enumerate(case.stamps)}
    known = [stamp for stamp in arrival.bars["timestamp"] if case.closes_at(rows[stamp]) < arrival.at]
    return Arrival(arrival.bars.filter(pl.col("timestamp").is_in(known)), arrival.at)
