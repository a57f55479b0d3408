"""What can make two paths differ, and the list of differences that a comparison fills. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from flows.parity_paths import Case, PathFill
from flows.signals import Decision

#: Relative to the figure.
TOLERANCE = 1e-9


class Cause(StrEnum):
    """Why two paths differ."""

    REVISION = "data revision"
    """The bar said something else, or was not there yet, when live decided."""
    NOT_CLOSED = "bar not closed"
    """Live decided before the bar's close."""
    WARM_UP = "warm-up"
    """Live remembered less history than research."""
    LATENCY = "latency"
    """The order arrived after the price it was meant for."""
    FEE = "fee"
    """The broker charged another rate than was assumed."""
    PARTIAL = "partial fill"
    """The market did not have all of it."""
    RISK = "risk block"
    """A control refused the order."""
    BOOK = "book gate"
    """The strategy's gate withheld an entry that the order book spoke against."""
    ROUNDING = "rounding"
    """The quantity was rounded to the market's steps, or too small to be asked for."""
    HOLE = "hole"
    """The next bar is missing: research trades across no hole."""
    UNEXPLAINED = "unexplained"
    """Nothing on record explains it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which two paths differ.

    Attributes:
        number: Counts from 1.
        timestamp: The bar that was decided on.
        path: The path that differs from the sweep: ``live`` or ``event``.
        what: ``decision``, ``fill``, ``bar``, ``quantity``, ``price`` or ``fee``.
        expected: What the sweep has.
        found: What the path has.
        causes: Why; several where only together they explain it.
        evidence: What proves it.
        follows: The difference that this one follows from, None for one of its own.
    """

    number: int
    timestamp: datetime
    path: str
    what: str
    expected: str
    found: str
    causes: tuple[Cause, ...]
    evidence: str
    follows: int | None = None


@dataclass
class Account:
    """What research's account holds, fill by fill.

    Attributes:
        cash: Quote asset.
        position: Base asset, negative for a short.
    """

    cash: float
    position: float = 0.0

    def took(self, fill: PathFill) -> None:
        """Take one more fill."""
        self.cash -= fill.quantity * fill.price + fill.fee
        self.position += fill.quantity

    def is_like(self, decision: Decision) -> bool:
        """Return whether the live account was the same when it decided."""
        if decision.equity is None or decision.price is None:
            return False
        cash = float(decision.equity - decision.position * decision.price)
        worth = max(abs(self.cash), float(decision.equity))
        return self.holds(decision) and abs(cash - self.cash) <= TOLERANCE * worth

    def holds(self, decision: Decision) -> bool:
        """Return whether the live position was the same when it decided."""
        return near(float(decision.position), self.position)


@dataclass
class Findings:
    """The differences so far.

    Attributes:
        case: What is compared.
        rows: In the order found.
        apart: Those of their own that set the two accounts apart at this moment.
        after: How many were numbered before.
    """

    case: Case
    rows: list[Difference] = field(default_factory=list)
    apart: list[Difference] = field(default_factory=list)
    after: int = 0

    def add(self, row: int, what: str, expected: str, found: str, causes: Sequence[Cause], evidence: str) -> Difference:
        """Note a difference of its own."""
        made = Difference(self._number(), self.case.stamps[row], "live", what, expected, found, tuple(causes), evidence)
        self.rows.append(made)
        self.apart.append(made)
        return made

    def follow(self, row: int, what: str, expected: str, found: str, origin: Difference, evidence: str) -> None:
        """Note a difference that another one led to."""
        number, stamp = self._number(), self.case.stamps[row]
        first = origin.follows or origin.number
        self.rows.append(
            Difference(number, stamp, "live", what, expected, found, origin.causes, evidence, follows=first)
        )

    def _number(self) -> int:
        return self.after + len(self.rows) + 1


def near(a: float, b: float) -> bool:
    """Return whether two figures are the same."""
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))


def told(fill: PathFill | None) -> str:
    """Return a fill in words."""
    if fill is None:
        return "none"
    return f"{'buy' if fill.quantity > 0 else 'sell'} {abs(fill.quantity):.12g} at {fill.price:.12g}"


def view_word(view: int) -> str:
    """Return a view in words."""
    return {1: "bullish", 0: "neither", -1: "bearish"}[view]
