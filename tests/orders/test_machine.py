"""Whatever happens to orders in whatever order, journal and lifecycle say what a slow reference says.

The suite runs a few examples; `make proof-lifecycles` ten thousand of up to fifty steps.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tasks.errors import InputError
from tasks.journal.entries import Entry, Kind, decode, encode
from tasks.journal.state import Draft, State
from tasks.orders.lifecycle import Event
from tasks.orders.order import TERMINAL, Fill, OrderRequest, Side
from tasks.orders.states import Happening
from tests.orders.reference import ReferenceOrder, Trade

EXAMPLES = int(os.environ.get("PROOF_EXAMPLES", "40"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUANTITY = 10
PLAIN = [
    kind
    for kind in Happening
    if kind not in (Happening.FILLED_PART, Happening.FILLED_ALL, Happening.FILLED_OVER)
    and kind not in (Happening.BUSTED, Happening.REPLACED)
]
#: What usually comes next is drawn more often, so that orders get to live.
USUAL = [Happening.SUBMIT_INTENDED, Happening.ACKED, Happening.OUTCOME_UNKNOWN, Happening.CANCEL_REQUESTED]
PICK = st.integers(0, 1_000)


class Orders(RuleBasedStateMachine):
    """Orders of one account and symbol, once as the journal folds them and once as the reference does."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.entries = State(), []
        self.reference: dict[str, ReferenceOrder] = {}
        self.counted: dict[str, str] = {}  # every trade that ever counted, and for which order
        self.figures: dict[str, Trade] = {}

    @rule(side=st.sampled_from(Side), working=st.booleans())
    def create(self, side: Side, working: bool) -> None:
        """Decide an order, which may get to work at once; the same signal again is refused."""
        identifier = f"o{len(self.reference)}"
        request = OrderRequest(identifier, "a", "S", side, Decimal(QUANTITY), signal_key=identifier)
        self._commit(Entry(Kind.CREATED, identifier, request))
        self.reference[identifier] = ReferenceOrder(side.sign, QUANTITY)
        with pytest.raises(InputError):
            Draft(self.state).take(Entry(Kind.CREATED, identifier, request))
        if working:
            self._happens(identifier, Happening.SUBMIT_INTENDED)
            self._happens(identifier, Happening.ACKED)

    @precondition(lambda self: self.reference)
    @rule(pick=PICK, kind=st.one_of(st.sampled_from(USUAL), st.sampled_from(PLAIN)))
    def happen(self, pick: int, kind: Happening) -> None:
        """Anything happens to an order."""
        self._happens(self._any(pick), kind)

    @precondition(lambda self: self.reference)
    @rule(pick=PICK, quantity=st.integers(1, 2 * QUANTITY))
    def replace(self, pick: int, quantity: int) -> None:
        """The broker says that an order has another quantity."""
        identifier = self._any(pick)
        self._commit(Entry(Kind.EVENT, identifier, Event(Happening.REPLACED, quantity=Decimal(quantity))))
        self.reference[identifier].replaced(quantity)

    @precondition(lambda self: self.reference)
    @rule(pick=PICK, quantity=st.integers(1, QUANTITY + 2), price=st.integers(1, 500), inferred=st.booleans())
    def fill(self, pick: int, quantity: int, price: int, inferred: bool) -> None:
        """A new trade is told, or one is made up."""
        self._told(self._any(pick), f"t{len(self.figures)}", Trade(quantity, price, inferred))

    @precondition(lambda self: self.figures)
    @rule(pick=PICK, other=PICK, changed=st.booleans())
    def fill_again(self, pick: int, other: int, changed: bool) -> None:
        """A trade is told again: of the same or another order, with the same or other figures, busted or not."""
        name = list(self.figures)[pick % len(self.figures)]
        known = self.figures[name]
        self._told(self._any(other), name, Trade(known.quantity + changed, known.price, known.inferred))

    @precondition(lambda self: self.counted)
    @rule(pick=PICK)
    def bust(self, pick: int) -> None:
        """A trade is taken back."""
        name, identifier = list(self.counted.items())[pick % len(self.counted)]
        self._commit(Entry(Kind.EVENT, identifier, Event(Happening.BUSTED, trade_id=name)))
        self.reference[identifier].bust(name)

    @rule()
    def restart(self) -> None:
        """A start folds what was written into the same state."""
        folded = State()
        for kind, identifier, payload in self.entries:
            folded.take(Entry(Kind(kind), identifier, decode(kind, payload)))
        assert folded == self.state
        self.state = folded

    @invariant()
    def agree(self) -> None:
        """Every order stands where the reference says, with the same trades, and the position is their sum."""
        assert self.state.orders.keys() == self.reference.keys()
        for identifier, wanted in self.reference.items():
            order = self.state.orders[identifier]
            assert (order.status.value, order.pending.value) == (wanted.status, wanted.pending)
            trades = {fill.trade_id: Trade(int(fill.quantity), int(fill.price), fill.inferred) for fill in order.fills}
            assert trades == wanted.trades
            assert order.filled_quantity == wanted.filled
            left = 0 if order.status in TERMINAL else max(0, wanted.quantity - wanted.filled)
            assert order.remaining_quantity == left
            if wanted.filled:
                cost = sum(trade.quantity * trade.price for trade in wanted.trades.values())
                average = order.average_price
                assert average is not None
                assert abs(Fraction(average) - Fraction(cost, wanted.filled)) < Fraction(1, 10**20)
        held = sum(order.sign * order.filled for order in self.reference.values())
        assert self.state.positions.get(("a", "S"), Decimal(0)) == held

    def _happens(self, identifier: str, kind: Happening) -> None:
        self._commit(Entry(Kind.EVENT, identifier, Event(kind)))
        self.reference[identifier].happens(kind.value)

    def _told(self, identifier: str, name: str, trade: Trade) -> None:
        fill = Fill(name, Decimal(trade.price), Decimal(trade.quantity), Decimal(0), NOW, trade.inferred)
        self._commit(Entry(Kind.EVENT, identifier, Event(Happening.FILLED_PART, fill=fill)))
        if name not in self.counted:
            self.counted[name], self.figures[name] = identifier, Trade(trade.quantity, trade.price, trade.inferred)
            self.reference[identifier].trade(name, trade)

    def _commit(self, entry: Entry) -> None:
        """Apply an entry as the journal does: to a draft that is kept once it is written."""
        draft = Draft(self.state)
        draft.take(entry)
        draft.keep()
        self.entries.append((entry.kind.value, entry.client_order_id, encode(entry.body)))

    def _any(self, pick: int) -> str:
        return list(self.reference)[pick % len(self.reference)]


TestOrders = Orders.TestCase
TestOrders.__doc__ = "Journal and reference agree after every step."
TestOrders.settings = settings(max_examples=EXAMPLES, stateful_step_count=50, suppress_health_check=list(HealthCheck))
