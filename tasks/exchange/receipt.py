"""What a backfill says about itself: progress while it runs, a receipt at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lake.store import WriteReceipt
from tasks.exchange.page import Page

Range = tuple[datetime, datetime]


@dataclass(frozen=True)
class PageProgress:
    """What was done so far, after a page.

    Attributes:
        symbol: Whose bars.
        rows: Bars fetched.
        requests: Requests sent, retries included.
        done: Pages of this round that came.
        planned: Pages of this round.
    """

    symbol: str
    rows: int
    requests: int
    done: int
    planned: int


Progress = Callable[[PageProgress], None]


@dataclass(frozen=True)
class BackfillReceipt:
    """What a backfill of one partition did.

    Attributes:
        symbol: Whose bars.
        interval: Our spelling.
        start: First open asked for.
        end: Exclusive.
        rows: Bars fetched.
        rows_new: Bars the lake did not have.
        rows_revised: Bars the lake had with other values.
        requests: Requests sent, retries included.
        seconds: Wall time.
        missing: Ranges in which the market was open and the lake has no bar, closed bars only.
        unclosed: Rows dropped because their bar had not closed.
        duplicates: Rows dropped because they repeated another exactly.
        conflicts: Bars served with two different values in one page; not believed, asked for again.
    """

    symbol: str
    interval: str
    start: datetime
    end: datetime
    rows: int
    rows_new: int
    rows_revised: int
    requests: int
    seconds: float
    missing: tuple[Range, ...] = ()
    unclosed: int = 0
    duplicates: int = 0
    conflicts: int = 0


@dataclass
class Counts:
    """Adds up pages and writes on the way to a receipt."""

    rows: int = 0
    rows_new: int = 0
    rows_revised: int = 0
    requests: int = 0
    unclosed: int = 0
    duplicates: int = 0
    conflicts: int = 0

    def add(self, page: Page) -> None:
        """Count a page that came."""
        self.rows += page.bars.height
        self.unclosed += page.unclosed
        self.duplicates += page.duplicates
        self.conflicts += len(page.conflicts)

    def add_write(self, written: WriteReceipt) -> None:
        """Count a commit."""
        self.rows_new += written.rows_new
        self.rows_revised += written.rows_revised

    def summary(self) -> dict[str, int]:
        """Return the counts that are not zero."""
        return {name: count for name, count in vars(self).items() if count}

    def receipt(
        self, symbol: str, interval: str, start: datetime, end: datetime, missing: tuple[Range, ...], seconds: float
    ) -> BackfillReceipt:
        """Return the receipt."""
        return BackfillReceipt(
            symbol,
            interval,
            start,
            end,
            self.rows,
            self.rows_new,
            self.rows_revised,
            self.requests,
            seconds,
            missing,
            self.unclosed,
            self.duplicates,
            self.conflicts,
        )
