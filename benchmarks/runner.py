"""Measure a claim fairly and print it beside its bar.

Both sides of a comparison run in turn, A B A B, in one process on one machine, and the median of the pairwise ratios is
reported: a machine that slows down for a while slows both sides. A script fills one `Table` and ends with ``finish``::

    table = Table("Lake speeds")
    table.compare("page to committed rows", ours, theirs, bar=5.0, repeats=7)
    table.figure("allowed requests used", 0.983, at_least=0.97, unit="")
    table.finish()      # prints, exits 1 where a bar is missed
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

Side = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One claim and what was measured.

    Attributes:
        claim: In words.
        found: The figure that the bar judges.
        bar: What it must reach, as text.
        passed: Whether it does.
        detail: Both sides' figures, or how it was measured.
    """

    claim: str
    found: str
    bar: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides measured in turn.

    Attributes:
        ours_s: Median seconds of our side.
        theirs_s: Median seconds of the other side.
        ratio: Median of the pairwise ratios theirs / ours: how many times faster ours is.
        spread: The smallest and the largest of those ratios.
    """

    ours_s: float
    theirs_s: float
    ratio: float
    spread: tuple[float, float]


def measured_s(side: Side) -> float:
    """Return the seconds one call takes; a side that returns a float has measured itself."""
    gc.collect()
    began = time.perf_counter()
    answer = side()
    elapsed = time.perf_counter() - began
    return answer if isinstance(answer, float) else elapsed


def compare(ours: Side, theirs: Side, *, repeats: int = 7, warm_up: int = 1) -> Comparison:
    """Measure both sides in turn and return the median of the ratios.

    Args:
        ours: Does our side's work once; may return its own measurement in seconds as a float.
        theirs: Does the same work the other way.
        repeats: Pairs that count.
        warm_up: Pairs before them that do not (imports, caches, compilation).
    """
    for _ in range(warm_up):
        ours(), theirs()
    pairs = [(measured_s(ours), measured_s(theirs)) for _ in range(repeats)]
    ratios = [theirs_s / ours_s for ours_s, theirs_s in pairs]
    return Comparison(
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
    )


class Table:
    """The claims of one script, printed together at its end.

    Args:
        title: Printed above.
        bars_apply: False prints the figures but never fails (a quick run on too little data).
    """

    def __init__(self, title: str, *, bars_apply: bool = True) -> None:
        self.title = title
        self.rows: list[Row] = []
        self._bars_apply = bars_apply

    def compare(
        self, claim: str, ours: Side, theirs: Side, *, bar: float, repeats: int = 7, warm_up: int = 1, work: float = 0.0
    ) -> Comparison:
        """Measure both sides and add a row; passed where ours is at least `bar` times faster.

        Args:
            claim: In words.
            ours: Our side.
            theirs: The other side.
            bar: How many times faster ours must be.
            repeats: Pairs that count.
            warm_up: Pairs that do not.
            work: Units of work in one call (rows, bars); shown as a rate where given.
        """
        found = compare(ours, theirs, repeats=repeats, warm_up=warm_up)
        low, high = found.spread
        detail = (
            f"ours {_speed(found.ours_s, work)}, other {_speed(found.theirs_s, work)}, ratios {low:.1f} to {high:.1f}"
        )
        self._add(Row(claim, f"{found.ratio:.1f}×", f"≥ {bar:g}×", found.ratio >= bar, detail))
        return found

    def figure(
        self,
        claim: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "",
        detail: str = "",
    ) -> None:
        """Add a single figure and the bound it must keep; with neither bound it is only shown."""
        passed = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bounds = [f"{sign} {bound:g}{unit}" for sign, bound in (("≥", at_least), ("≤", at_most)) if bound is not None]
        self._add(Row(claim, f"{value:,.4g}{unit}", " ".join(bounds) or "–", passed, detail))

    def finish(self) -> None:
        """Print the table and end the process: 0 where every bar is reached, else 1."""
        table = RichTable("claim", "measured", "bar", "", "detail", title=f"{self.title} ({_machine()})")
        for row in self.rows:
            table.add_row(row.claim, row.found, row.bar, "ok" if row.passed else "MISSED", row.detail)
        Console(width=max(Console().width, 160) if not sys.stdout.isatty() else None).print(table)
        missed = [row.claim for row in self.rows if not row.passed]
        if missed:
            print(f"missed: {'; '.join(missed)}")
        sys.exit(1 if missed and self._bars_apply else 0)

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"{row.claim}: {row.found} (bar {row.bar}) {row.detail}", flush=True)


def _speed(seconds: float, work: float) -> str:
    if not work:
        return f"{seconds * 1e3:,.4g} ms" if seconds < 1 else f"{seconds:,.4g} s"
    return f"{work / seconds:,.0f}/s"


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"
