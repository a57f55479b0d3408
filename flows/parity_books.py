"""The order book as it was recorded: what a gate would have seen at a past moment."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from flows.parity_paths import Case
from lake.store import Lake
from tasks.errors import InputError
from tasks.strategies.book_gate import BookView
from tasks.stream.book import BookPolicy, level_faults
from tasks.stream.recording import DEPTH

_SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


@dataclass(frozen=True, slots=True)
class RecordedBooks:
    """The books of one symbol over a period, one a second at the most.

    Attributes:
        received: When each came in, in order.
        levels: Bids and asks of each, the best first.
    """

    received: list[datetime]
    levels: list[tuple[list[tuple[float, float]], list[tuple[float, float]]]]

    @classmethod
    def read(cls, lake: Lake, case: Case) -> RecordedBooks:
        """Read the books of a case's period.

        Raises:
            InputError: None were recorded: whether a gate would have let an entry pass cannot be known.
        """
        start, end = case.stamps[case.first], case.closes_at(len(case.stamps) - 1)
        rows: list[tuple] = []
        if lake.exists(DEPTH):
            within = pl.col("received_at").is_between(start, end) & (pl.col("symbol") == case.symbol)
            books = lake.scan(DEPTH).filter(within).sort("received_at").select("received_at", *_SIDES)
            rows = books.collect().rows()
        if not rows:
            raise InputError(
                f"parity: expected recorded books of {case.symbol} from {start} to {end} for the book gate, found none "
                "in live/depth; run the live flow to record them, or compare without conditions.book_gate"
            )
        pairs = [(list(zip(bp, bs, strict=True)), list(zip(ap, az, strict=True))) for _, bp, bs, ap, az in rows]
        return cls([row[0] for row in rows], pairs)

    def __call__(self, at: datetime) -> BookView:
        """Return what the newest book said at an instant; as live, one older than two seconds says nothing."""
        place = bisect_right(self.received, at) - 1
        if place < 0:
            return BookView(faults=("no snapshot yet",))
        age_s = (at - self.received[place]).total_seconds()
        if age_s > BookPolicy().max_age_s:
            return BookView(faults=("the last snapshot is too old",))
        bids, asks = self.levels[place]
        if faults := level_faults(bids, asks):
            return BookView(faults=tuple(str(fault) for fault in faults))
        return BookView.of(bids[0], asks[0], age_s)
