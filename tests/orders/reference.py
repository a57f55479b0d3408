"""The slow twin of an order's lifecycle and of the journal's fold: whole numbers, plain dictionaries, rules in words.

It shares nothing with `tasks.orders` but names: no transition table, no tuple of fills, no sums kept along the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UNSENT = {"initialized"}
ALIVE = {"submitting", "in_doubt", "pending_new", "accepted", "partially_filled"}
#: The broker is taken not to have it; its word to the contrary brings the order back.
NEVER = {"denied", "rejected", "not_placed"}
ENDED = {"canceled", "expired"}
OVER = NEVER | ENDED | {"filled"}


@dataclass
class Trade:
    """An execution: quantity, price, and whether it was made up from a snapshot."""

    quantity: int
    price: int
    inferred: bool = False


@dataclass
class ReferenceOrder:
    """One order by the rules of docs/orders.md.

    Attributes:
        sign: +1 for a buy.
        quantity: Asked for.
        status: As the value of `Status`.
        pending: As the value of `Pending`.
        trades: What counts.
    """

    sign: int
    quantity: int
    status: str = "initialized"
    pending: str = "none"
    trades: dict[str, Trade] = field(default_factory=dict)

    @property
    def filled(self) -> int:
        """Return the sum of what counts."""
        return sum(trade.quantity for trade in self.trades.values())

    def happens(self, kind: str) -> None:
        """Take in an event that is neither a trade nor its being taken back."""
        getattr(self, f"_{kind}")()
        if self.status in OVER:
            self.pending = "none"

    def trade(self, name: str, trade: Trade) -> None:
        """Count an execution, in whatever state; a real one takes the place of what was made up."""
        if name in self.trades:
            return
        before = self.filled
        if not trade.inferred:
            self._replace_made_up(trade.quantity)
        self.trades[name] = trade
        if self.filled == before:
            return
        whole = self.filled >= self.quantity
        if self.status in ALIVE | NEVER:
            self.status = "filled" if whole else "partially_filled"
        elif self.status in ENDED and whole:
            self.status = "filled"
        if self.status in OVER:
            self.pending = "none"

    def bust(self, name: str) -> None:
        """Take an execution back."""
        if name in self.trades and self.status in {"partially_filled", "filled"} | ENDED:
            del self.trades[name]
            self._recount()

    def replaced(self, quantity: int) -> None:
        """Take in a replacement of the quantity."""
        if self.status in {"in_doubt", "pending_new", "accepted", "partially_filled", "filled"}:
            self.pending, self.quantity = "none", quantity
            if self.status != "filled":
                self.status = "accepted"
            self._recount(reopen=True)

    def _recount(self, *, reopen: bool = False) -> None:
        if self.status in ENDED:
            return
        if self.filled >= self.quantity:
            self.status, self.pending = "filled", "none"
        else:
            self.status = "partially_filled" if self.trades else "accepted"

    def _replace_made_up(self, quantity: int) -> None:
        for name, trade in list(self.trades.items()):
            if trade.inferred:
                taken = min(quantity, trade.quantity)
                trade.quantity, quantity = trade.quantity - taken, quantity - taken
                if not trade.quantity:
                    del self.trades[name]

    def _risk_denied(self) -> None:
        self.status = "denied" if self.status in UNSENT else self.status

    def _submit_intended(self) -> None:
        self.status = "submitting" if self.status in UNSENT else self.status

    def _not_sent(self) -> None:
        self.status = {"initialized": "denied", "submitting": "not_placed"}.get(self.status, self.status)

    def _outcome_unknown(self) -> None:
        self.status = "in_doubt" if self.status == "submitting" else self.status

    def _acked_pending(self) -> None:
        if self.status in {"submitting", "in_doubt"} | NEVER:
            self.status = "pending_new"

    def _acked(self) -> None:
        if self.status in {"submitting", "in_doubt", "pending_new"} | NEVER:
            self.status = "accepted"

    def _cancel_requested(self) -> None:
        if self.status in UNSENT:
            self.status = "canceled"
        elif self.status in ALIVE:
            self.pending = "cancel"

    def _cancel_acked(self) -> None:
        if self.status in ALIVE:
            self.status = "canceled"

    def _cancel_refused(self) -> None:
        if self.status in ALIVE:
            self.pending = "none"

    def _replace_requested(self) -> None:
        if self.status in ALIVE:
            self.pending = "replace"

    _replace_refused = _cancel_refused

    def _expired(self) -> None:
        if self.status in ALIVE:
            self.status = "expired"

    def _rejected(self) -> None:
        if self.status in {"submitting", "in_doubt", "pending_new", "accepted", "not_placed"}:
            self.status = "rejected"

    def _not_found(self) -> None:
        """Not finding proves nothing."""

    def _proved_absent(self) -> None:
        gone = {"accepted": "in_doubt", "partially_filled": "canceled"}
        if self.status in {"submitting", "in_doubt", "pending_new"}:
            self.status = "not_placed"
        else:
            self.status = gone.get(self.status, self.status)
