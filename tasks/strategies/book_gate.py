"""A gate in front of live entries: what the order book must say at the moment of deciding. Pure.

Signals come from closed bars, in research and live alike. A gate only withholds entries, and only where there is a
book: live, and in a replay of books that were recorded. No sweep knows it (docs/decisions/0017-book-gate.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True)
class BookView:
    """What a symbol's book says at one moment; figures are None where `faults` forbids to derive any.

    Attributes:
        pressure: Best bid's size over best ask's.
        imbalance: ``(bid size − ask size) / (bid size + ask size)`` of the best levels, in [-1, 1].
        spread_bps: Best ask less best bid, in basis points of their middle.
        age_s: Since the book was received.
        faults: Why nobody vouches for it, empty where somebody does.
    """

    pressure: float | None = None
    imbalance: float | None = None
    spread_bps: float | None = None
    age_s: float | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, bid: tuple[float, float], ask: tuple[float, float], age_s: float) -> BookView:
        """Return what the best levels say, each a price and a size above 0."""
        (price, size), (asked, offered) = bid, ask
        spread = 2e4 * (asked - price) / (asked + price)
        return cls(size / offered, (size - offered) / (size + offered), spread, age_s)


class BookGate(BaseModel):
    """What the book must say before a position is opened or enlarged; by default nothing is asked of it."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid")

    min_pressure: float | None = Field(None, gt=0)
    """Least ratio of the best sizes, the side of the entry over the other: bid over ask for a purchase, ask over bid
    for a sale.
    """

    min_imbalance: float | None = Field(None, ge=-1, lt=1)
    """Least imbalance of the best sizes towards the side of the entry."""

    max_spread_bps: float | None = Field(None, gt=0)
    """Widest spread."""

    @property
    def is_set(self) -> bool:
        """Whether anything is asked of the book."""
        return self != BookGate()

    def objection(self, side: int, book: BookView | None) -> str:
        """Return why an entry must not be made, empty where it may; without a book to trust it must not.

        Args:
            side: 1 for a purchase, -1 for a sale.
            book: As it stands at the moment of deciding.
        """
        if not self.is_set:
            return ""
        if book is None or book.faults or book.pressure is None:
            found = ", ".join(book.faults) if book is not None and book.faults else "none"
            return f"expected a book the stream vouches for, found {found}"
        pressure, imbalance = book.pressure**side, side * (book.imbalance or 0.0)
        if self.min_pressure is not None and not pressure >= self.min_pressure:
            return f"expected a pressure of at least {self.min_pressure:g} towards the entry, found {pressure:.3g}"
        if self.min_imbalance is not None and not imbalance >= self.min_imbalance:
            return f"expected an imbalance of at least {self.min_imbalance:g} towards the entry, found {imbalance:.3g}"
        spread = math.inf if book.spread_bps is None else book.spread_bps
        if self.max_spread_bps is not None and not spread <= self.max_spread_bps:
            return f"expected a spread of at most {self.max_spread_bps:g} bps, found {spread:.3g}"
        return ""
