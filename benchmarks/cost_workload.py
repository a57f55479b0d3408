"""What so many symbols and years cost, from rates measured on small runs. Pure: counts exactly, scales linearly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lake.timeline import interval as interval_named
from lake.timeline import partitions

#: The vendor's bars a page.
PAGE_BARS = 1_000
#: Stages, in CPU seconds.
STAGES = ("backfill", "quality", "features", "sweep")
#: Figures whose fixed part is a symbol's; that of the others is a partition's.
BY_SYMBOL = frozenset({"features", "feature_disk", "sweep"})


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line: a part for each unit (a partition, a symbol), and a part for each bar."""

    unit: float
    bar: float

    def at(self, units: float, bars: float) -> float:
        """Return the cost of that many units with that many bars together."""
        return units * self.unit + bars * self.bar


def through(points: Sequence[tuple[float, float, float]]) -> Line:
    """Return the line through two measured points ``(units, bars, cost)``; neither part is below zero."""
    (units, bars, cost), (more_units, more_bars, more_cost) = points
    determinant = units * more_bars - more_units * bars
    unit = (cost * more_bars - more_cost * bars) / determinant
    if unit < 0:  # noise: there is no such thing as a negative fixed part
        return Line(0.0, more_cost / more_bars)
    bar = (units * more_cost - more_units * cost) / determinant
    return Line(unit, bar) if bar > 0 else Line(more_cost / more_units, 0.0)


@dataclass(frozen=True, slots=True)
class Workload:
    """Symbols that trade around the clock, for years, at an interval."""

    symbols: int
    years: int
    interval: str

    @property
    def _span(self) -> tuple[datetime, datetime]:
        return datetime(2026 - self.years, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def bars(self) -> int:
        """Bars of all symbols."""
        start, end = self._span
        return self.symbols * round((end - start) / (interval_named(self.interval).step or (end - start)))

    @property
    def partitions(self) -> int:
        """Partitions of all symbols: the unit of a backfill's task, of a commit and of a verdict."""
        return self.symbols * sum(1 for _ in partitions(self.interval, *self._span))

    @property
    def requests(self) -> int:
        """Pages of all symbols: each partition's bars, rounded up to whole pages."""
        step = interval_named(self.interval).step
        assert step is not None, "a month has no fixed length"
        pages = (math.ceil((end - start) / step / PAGE_BARS) for start, end in partitions(self.interval, *self._span))
        return self.symbols * sum(pages)


def minutes(requests: int, requests_per_minute: int) -> float:
    """Return how long that many requests take at a plan's rate: a window's share at once, the next a minute later.

    One request in a hundred is kept for live use (`tasks.exchange.limiter.per_minute`).
    """
    return (requests - 1) // (requests_per_minute - requests_per_minute // 100)


@dataclass(frozen=True)
class Rates:
    """What was measured on this machine.

    Attributes:
        lines: Figure (a stage's CPU seconds; `disk` and `feature_disk` in bytes) → its line; a sweep's bars count once
            for each combination.
        run_s: Stage → CPU seconds of a run that finds next to nothing to do.
        memory_mb: Of the widest stage (features): for the process, and for a bar of the longest symbol.
    """

    lines: dict[str, Line]
    run_s: dict[str, float]
    memory_mb: Line

    def cost(self, figure: str, units: float, bars: float) -> float:
        """Return the cost of one run over so many units and bars."""
        return self.run_s.get(figure, 0.0) + self.lines[figure].at(units, bars)

    def of(self, figure: str, work: Workload, combinations: int) -> float:
        """Return what a workload costs of a figure."""
        units = work.symbols if figure in BY_SYMBOL else work.partitions
        return self.cost(figure, units, work.bars * (combinations if figure == "sweep" else 1))
