"""What a backfill will ask for, before it asks: requests, minutes at the plan's rate, bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lake.timeline import interval
from tasks.exchange.limiter import per_minute
from tasks.exchange.page import first_from, within
from tasks.exchange.request import PAGE_BARS, Window

#: What a bar and a page weigh as the vendor's JSON (measured: 136 to 155 kB a page of 1,000 bars).
BYTES_PER_BAR = 150
BYTES_PER_PAGE = 250

Range = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What one symbol needs.

    Attributes:
        symbol: In the vendor's spelling.
        interval: Our spelling.
        windows: The requests, oldest first.
        bars: Bars that are expected from them.
    """

    symbol: str
    interval: str
    windows: tuple[Window, ...]
    bars: int

    @property
    def requests(self) -> int:
        """Requests that the symbol needs if none fails."""
        return len(self.windows)


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """Every request of a backfill, known before the first is sent.

    Attributes:
        lines: One a symbol, also where nothing is missing.
        requests_per_minute: The rate of the vendor's plan.
    """

    lines: tuple[PlanLine, ...]
    requests_per_minute: int

    @property
    def requests(self) -> int:
        """Requests of all symbols, if none fails and no page is short."""
        return sum(line.requests for line in self.lines)

    @property
    def bars(self) -> int:
        """Bars of all symbols."""
        return sum(line.bars for line in self.lines)

    @property
    def size_bytes(self) -> int:
        """Bytes to receive, uncompressed."""
        return self.bars * BYTES_PER_BAR + self.requests * BYTES_PER_PAGE

    @property
    def minutes(self) -> float:
        """Minutes at the plan's rate, the share kept for live use left alone."""
        limits = per_minute(self.requests_per_minute)
        return self.requests / (limits.limit - limits.reserve)

    def rows(self) -> list[dict[str, str]]:
        """Return the plan as rows of text: one a symbol, then the total."""
        lines = [_row(line.symbol, line.windows, line.requests, line.bars) for line in self.lines]
        return [*lines, _row("total", (), self.requests, self.bars)]

    def render(self) -> str:
        """Return the plan as a table of text."""
        rows = self.rows()
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
        head = "  ".join(name.ljust(width) for name, width in widths.items())
        body = ["  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in rows]
        return "\n".join([head.rstrip(), *body, "", self.summary()])

    def summary(self) -> str:
        """Return the plan in one sentence."""
        if not self.requests:
            return "Nothing to ask: every absent bar is explained."
        return (
            f"{self.requests:,} requests for {self.bars:,} bars, {self.size_bytes / 1e6:,.1f} MB, "
            f"{self.minutes:,.1f} minutes at {self.requests_per_minute:,} requests a minute."
        )


def pack_windows(
    interval_name: str, ranges: Iterable[Range], expected: pl.Series, page_bars: int = PAGE_BARS
) -> list[Window]:
    """Return the fewest windows that cover `ranges`, each holding at most `page_bars` expected bars.

    A request costs the same however much it brings, so that a window bridges bars that are there rather than ending.
    Going left to right and reaching as far as a page allows is optimal for covering a line with segments.

    Args:
        interval_name: Our spelling.
        ranges: What is wanted, in order, disjoint.
        expected: Every open at which the market trades, sorted; it covers all ranges.
        page_bars: The most bars a page holds.
    """
    windows: list[Window] = []
    for start, end in ranges:
        moment = max(start, windows[-1].end) if windows else start
        reach = _reach(expected, windows[-1].start, page_bars) if windows else None
        if windows and (reach is None or moment < reach):
            windows[-1] = Window(windows[-1].start, end if reach is None else min(end, reach))
            moment = windows[-1].end
        while moment < end:
            reach = _reach(expected, moment, page_bars)
            cut = end if reach is None else min(end, reach)
            windows.append(Window(moment, cut))
            moment = cut
    return windows


def _reach(expected: pl.Series, start: datetime, page_bars: int) -> datetime | None:
    """Return the open that no longer fits a page that begins at `start`, None where everything left fits."""
    place = first_from(expected, start) + page_bars
    return expected[place] if place < expected.len() else None


def plan_line(
    symbol: str, interval_name: str, ranges: Sequence[Range], expected: pl.Series, page_bars: int = PAGE_BARS
) -> PlanLine:
    """Return what a symbol needs: the windows, and how many expected bars lie in the ranges."""
    windows = tuple(pack_windows(interval_name, ranges, expected, page_bars))
    bars = sum(within(expected, Window(start, end)).len() for start, end in ranges)
    return PlanLine(symbol, interval(interval_name).name, windows, bars)


def _row(symbol: str, windows: Sequence[Window], requests: int, bars: int) -> dict[str, str]:
    span = f"{windows[0].start:%Y-%m-%d} to {windows[-1].end:%Y-%m-%d}" if windows else ""
    size = (bars * BYTES_PER_BAR + requests * BYTES_PER_PAGE) / 1e6
    return {"symbol": symbol, "range": span, "requests": f"{requests:,}", "bars": f"{bars:,}", "MB": f"{size:,.1f}"}
