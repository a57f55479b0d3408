"""What strategies hand to the order desk, and how often the desk looks after things by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct, field

from flows.trading_agreement import GRACE_S
from tasks.errors import InputError
from tasks.orders.account import Book, Verdict
from tasks.orders.identity import client_order_id
from tasks.orders.order import OrderRequest, OrderType, Side, TimeInForce
from tasks.orders.risk import reduces

#: What refuses an entry that the strategy's own gate objects to, in verdicts.
BOOK_GATE = "book_gate"


class Proposal(Struct, frozen=True):
    """An order that a strategy wants.

    Attributes:
        strategy: Who wants it.
        symbol: In the broker's spelling.
        side: Which way.
        quantity: Base asset.
        signal_key: What it was decided on; the same key never becomes two orders.
        decided_at: When, by the wall clock.
        order_type: How the price is chosen.
        limit_price: For a limit order.
        time_in_force: How long it works.
        leg: Tells several orders of one signal apart.
        parent_quantity: What the signal asks for in all, where several orders carry it out.
        closes: It may only bring a position closer to nothing; where it would not, it is denied.
        objection: Why the strategy's own gate denies it, empty where it does not.
        evidence: What it was decided from, for the journal.
    """

    strategy: str
    symbol: str
    side: Side
    quantity: Decimal
    signal_key: str
    decided_at: datetime
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.IOC
    leg: str = ""
    parent_quantity: Decimal | None = None
    closes: bool = False
    objection: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def request(self, account: str) -> OrderRequest:
        """Return the one order that this can become.

        Raises:
            InputError: No broker could take it, a part of its name is missing or holds what parts them, or its time
                has no zone.
        """
        if self.decided_at.tzinfo is None:
            raise InputError(f"proposal: expected a moment with a zone, found {self.decided_at} in decided_at")
        if "|" in self.strategy or "|" in self.leg:
            raise InputError(
                f"proposal: expected a strategy and a leg without |, which parts the names of a signal, found "
                f"{self.strategy!r} and {self.leg!r}"
            )
        identifier = client_order_id(account, self.strategy, self.signal_key, self.leg)
        return OrderRequest(
            identifier,
            account,
            self.symbol,
            self.side,
            self.quantity,
            self.order_type,
            self.limit_price,
            self.time_in_force,
            strategy=self.strategy,
            signal_key="|".join((self.strategy, self.signal_key, self.leg)),
        )

    def signal(self) -> dict[str, Any]:
        """Return what led to it, for the journal."""
        return {"signal": self.signal_key, "decided_at": self.decided_at, **self.evidence}

    def judged(self, verdict: Verdict, request: OrderRequest, book: Book) -> Verdict:
        """Return risk's verdict, with what the proposal itself forbids where risk lets it pass."""
        if not verdict.passed:
            return verdict
        refused, reason = "", ""
        if self.objection:
            refused, reason = BOOK_GATE, self.objection
        elif self.closes and not reduces(request, book):
            refused, reason = "closes_only", "expected a position left to close, found less or none"
        if not refused:
            return verdict
        return Verdict(passed=False, refused_by=refused, reason=reason, checked=(*verdict.checked, refused))


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the desk looks after things by itself, in seconds.

    Attributes:
        tick_s: Doubts, unanswered cancels and missing fills.
        recheck_s: Journal against broker while they do not agree.
        reconcile_s: The same while they do.
        grace_s: How long positions may differ before trading halts.
        skew_s: How far our clock and the broker's may be apart.
        dead_man_s: After how long without a sign of life the broker cancels everything, where it can; 0 for never.
        rehearse_s: How often an order's way is gone without an order, so that one finds it quick; 0 for never.
    """

    tick_s: float = 0.25
    recheck_s: float = 1.0
    reconcile_s: float = 60.0
    grace_s: float = GRACE_S
    skew_s: float = 1.0
    dead_man_s: float = 60.0
    rehearse_s: float = 0.02
