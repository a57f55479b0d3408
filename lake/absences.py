"""Why a bar is absent. Pure: the opens that are there, the facts that are known, and one reason for every other open.

Times are arrays of microseconds since the epoch here, so that ten years of minutes take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import polars as pl

from lake.schema import TIMESTAMP


class Reason(StrEnum):
    """Why a bar is absent; where several hold, the first of this list is the reason."""

    #: The bar has not closed yet, so that asking for it would bring a forming one.
    NOT_CLOSED = "not_closed"
    #: The symbol was not listed yet.
    BEFORE_LISTING = "before_listing"
    #: The market did not trade during the bar.
    MARKET_CLOSED = "market_closed"
    #: The vendor answered for this time often enough, each time without this bar.
    VENDOR_EMPTY = "vendor_empty"
    #: The vendor's plan reaches less far back.
    BEYOND_HISTORY = "beyond_history"
    #: Asked for, but the request failed, or the vendor has not said "nothing" often enough.
    TO_RETRY = "to_retry"
    #: Never asked for.
    NOT_FETCHED = "not_fetched"


#: The reasons that a backfill acts on.
TO_FETCH = (Reason.TO_RETRY, Reason.NOT_FETCHED)

#: One row a run of absent bars with one reason: `start`, exclusive `end`, `reason`, `bars` in it, and how often the
#: vendor answered without them.
ABSENCES: dict[str, pl.DataType] = {
    "start": TIMESTAMP,
    "end": TIMESTAMP,
    "reason": pl.String(),
    "bars": pl.Int64(),
    "confirmations": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class Segments:
    """Disjoint half-open ranges in order, each with a count; microseconds since the epoch."""

    start: np.ndarray
    end: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int, int]] | np.ndarray) -> Segments:
        """Return ranges that may overlap as disjoint ones whose counts are sums; neighbours of one count are joined."""
        told = ranges if isinstance(ranges, np.ndarray) else np.array(list(ranges), np.int64)
        rows = told.reshape(-1, 3)
        rows = rows[rows[:, 0] < rows[:, 1]]
        edges = np.unique(rows[:, :2])
        steps = np.zeros(len(edges), np.int64)
        np.add.at(steps, np.searchsorted(edges, rows[:, 0]), rows[:, 2])
        np.subtract.at(steps, np.searchsorted(edges, rows[:, 1]), rows[:, 2])
        level = np.cumsum(steps)
        turns = np.flatnonzero(np.diff(level, prepend=0))
        start, count = edges[turns], level[turns]
        keep = count[:-1] > 0 if len(count) else np.zeros(0, bool)
        return cls(start[:-1][keep], start[1:][keep], count[:-1][keep])

    def at(self, moments: np.ndarray) -> np.ndarray:
        """Return the count at each moment, 0 outside every range."""
        if not len(self.start):
            return np.zeros(len(moments), np.int64)
        place = np.searchsorted(self.start, moments, side="right") - 1
        inside = (place >= 0) & (moments < self.end[place])
        return np.where(inside, self.count[place], 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known besides the rows; microseconds since the epoch.

    Attributes:
        closed_end: Opens from here on belong to bars that have not closed.
        listed_at: When trading began, None where unknown.
        reachable_from: First instant that the vendor's plan reaches, None for all of history.
        answered: How often the vendor answered for a time.
        failed: How often requests for a time failed since it last answered.
        confirmations: How many answers without a bar make it vendor-empty.
    """

    closed_end: int
    answered: Segments
    failed: Segments
    listed_at: int | None = None
    reachable_from: int | None = None
    confirmations: int = 2


def explain(grid: np.ndarray, present: np.ndarray, expected: np.ndarray, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Return for each open of `grid` its reason's place in `Reason` (-1 where the bar is there), and its answers.

    Args:
        grid: Every open of the interval in a range, in order.
        present: Opens of the bars that the lake has, in order.
        expected: Opens at which the market trades, in order; those from `closed_end` on may be left out.
        facts: What is known besides.
    """
    answers = facts.answered.at(grid)
    codes = np.full(len(grid), _CODE[Reason.NOT_FETCHED], np.int8)
    codes[(answers > 0) | (facts.failed.at(grid) > 0)] = _CODE[Reason.TO_RETRY]
    if facts.reachable_from is not None:
        codes[grid < facts.reachable_from] = _CODE[Reason.BEYOND_HISTORY]
    codes[answers >= facts.confirmations] = _CODE[Reason.VENDOR_EMPTY]
    if expected is not grid:  # a market that never closes
        codes[~_among(grid, expected)] = _CODE[Reason.MARKET_CLOSED]
    if facts.listed_at is not None:
        codes[grid < facts.listed_at] = _CODE[Reason.BEFORE_LISTING]
    codes[grid >= facts.closed_end] = _CODE[Reason.NOT_CLOSED]
    codes[_among(grid, present)] = -1
    return codes, answers


def runs(grid: np.ndarray, end: int, codes: np.ndarray, answers: np.ndarray) -> pl.DataFrame:
    """Return the explained opens as `ABSENCES`: one row a run of one reason and one number of answers.

    Args:
        grid: The opens.
        end: The open after the last of them.
        codes: As `explain` gives them.
        answers: As `explain` gives them.
    """
    key = codes.astype(np.int64) << 32 | answers
    first = np.flatnonzero(np.diff(key, prepend=~key[:1]))
    last = np.append(first[1:], len(grid)).astype(np.int64)
    absent = codes[first] >= 0
    first, last, bounds = first[absent], last[absent], np.append(grid, end)
    columns = {
        "start": pl.Series(bounds[first]).cast(TIMESTAMP),
        "end": pl.Series(bounds[last]).cast(TIMESTAMP),
        "reason": [_REASONS[code].value for code in codes[first]],
        "bars": last - first,
        "confirmations": answers[first],
    }
    return pl.DataFrame(columns, schema=ABSENCES)


def bars_by_reason(absences: pl.DataFrame) -> dict[str, int]:
    """Return the number of absent bars for each reason, 0 where there is none."""
    bars = dict(absences.group_by("reason").agg(pl.sum("bars")).iter_rows())
    return {reason.value: bars.get(reason.value, 0) for reason in Reason}


def to_fetch(absences: pl.DataFrame) -> list[tuple[datetime, datetime]]:
    """Return the ranges to ask the vendor for, joined where only a closed market lies between two of them."""
    ranges: list[tuple[datetime, datetime]] = []
    reach: datetime | None = None  # end of the last range and of the closed hours right after it
    for start, end, reason in absences.select("start", "end", "reason").iter_rows():
        if reason in TO_FETCH:
            begin = ranges.pop()[0] if reach == start else start
            ranges.append((begin, end))
            reach = end
        elif reason == Reason.MARKET_CLOSED and reach == start:
            reach = end
    return ranges


def _among(moments: np.ndarray, known: np.ndarray) -> np.ndarray:
    if not len(known):
        return np.zeros(len(moments), bool)
    place = np.minimum(np.searchsorted(known, moments), len(known) - 1)
    return known[place] == moments


_REASONS = tuple(Reason)
_CODE = {reason: place for place, reason in enumerate(_REASONS)}
