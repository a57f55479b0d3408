"""Thirty lives of an order as scripts of seven events, of which any order of arrival must end alike.

A script's words: ``f1`` to ``f5`` are trades (told again where they stand twice), ``s4`` is a snapshot of the broker
that speaks of four filled units, ``S10`` one that says filled, ``C4`` one that says cancelled with four filled; all
else are events by name. Snapshots come late enough that missing trades are made up from them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from tasks.broker.port import BrokerOrder
from tasks.broker.translate import GRACE_S, from_snapshot
from tasks.journal.entries import Entry, Kind
from tasks.journal.state import State
from tasks.orders.lifecycle import Event
from tasks.orders.order import Fill, Order, OrderRequest, Side, Status
from tasks.orders.states import Happening

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = OrderRequest("o1", "a", "S", Side.BUY, Decimal(10))
FILLS = {
    name: Event(Happening.FILLED_PART, fill=Fill(name, Decimal(price), Decimal(quantity), Decimal(1), NOW))
    for name, price, quantity in [("f1", 100, 1), ("f2", 101, 3), ("f3", 103, 2), ("f4", 97, 4), ("f5", 99, 10)]
}
_SNAPSHOTS = {"s": Status.PARTIALLY_FILLED, "S": Status.FILLED, "C": Status.CANCELED, "X": Status.EXPIRED}

#: Script, and what it comes to: status, filled quantity, value of what was filled.
SCRIPTS: dict[str, tuple[Status, int, int]] = {
    "acked f1 f2 f3 f4 not_found outcome_unknown": (Status.FILLED, 10, 997),
    "acked f1 f1 f2 f2 f3 f4": (Status.FILLED, 10, 997),
    "acked_pending acked f1 f2 f3 f4 f4": (Status.FILLED, 10, 997),
    "outcome_unknown acked f5 f5 f5 not_found not_found": (Status.FILLED, 10, 990),
    "outcome_unknown outcome_unknown f1 f2 f3 f4 acked": (Status.FILLED, 10, 997),
    "f5 acked acked_pending not_found outcome_unknown f5 acked": (Status.FILLED, 10, 990),
    "acked cancel_requested f1 f2 f3 f4 cancel_acked": (Status.FILLED, 10, 997),
    "acked cancel_requested cancel_refused f1 f2 f3 f4": (Status.FILLED, 10, 997),
    "acked cancel_requested f1 f2 cancel_acked f1 f2": (Status.CANCELED, 4, 403),
    "acked_pending acked cancel_requested f3 cancel_acked cancel_acked f3": (Status.CANCELED, 2, 206),
    "acked cancel_requested cancel_requested cancel_acked not_found not_found outcome_unknown": (Status.CANCELED, 0, 0),
    "acked_pending acked f1 f3 expired expired f1": (Status.EXPIRED, 3, 306),
    "acked f1 f2 f3 f4 expired outcome_unknown": (Status.FILLED, 10, 997),
    "acked expired expired not_found outcome_unknown acked_pending acked": (Status.EXPIRED, 0, 0),
    "acked f4 s4 s4 cancel_requested C4 f4": (Status.CANCELED, 4, 388),
    "acked f1 f2 s1 s4 f1 f2": (Status.PARTIALLY_FILLED, 4, 403),
    "acked f1 f2 f3 f4 s4 s6": (Status.FILLED, 10, 997),
    "acked f1 f2 f3 f4 S10 S10": (Status.FILLED, 10, 997),
    "outcome_unknown S10 f5 f5 acked not_found S10": (Status.FILLED, 10, 990),
    "outcome_unknown s6 f1 f2 f3 not_found acked": (Status.PARTIALLY_FILLED, 6, 609),
    "f1 f2 f3 f4 S10 acked_pending acked": (Status.FILLED, 10, 997),
    "cancel_requested f1 f2 C4 f1 f2 acked": (Status.CANCELED, 4, 403),
    "acked cancel_requested C0 not_found outcome_unknown acked_pending C0": (Status.CANCELED, 0, 0),
    "acked f3 X2 X2 f3 not_found outcome_unknown": (Status.EXPIRED, 2, 206),
    "acked f1 f2 f3 f4 f1 s10": (Status.FILLED, 10, 997),
    "acked replace_requested replace_refused f1 f2 f3 f4": (Status.FILLED, 10, 997),
    "acked replace_requested replace_refused f2 not_found f2 s3": (Status.PARTIALLY_FILLED, 3, 303),
    "acked f4 f2 f3 f1 cancel_refused cancel_requested": (Status.FILLED, 10, 997),
    "outcome_unknown outcome_unknown not_found not_found acked acked_pending acked": (Status.ACCEPTED, 0, 0),
    "s10 s6 s3 f1 f2 f3 f4": (Status.FILLED, 10, 997),
}


def lived(words: tuple[str, ...]) -> State:
    """Return what the journal makes of an order that was sent and then lived through these events."""
    state = State()
    state.take(Entry(Kind.CREATED, REQUEST.client_order_id, REQUEST))
    state.follow(REQUEST.client_order_id, Event(Happening.SUBMIT_INTENDED))
    for word in words:
        for event in _events(word, state.orders[REQUEST.client_order_id]):
            state.follow(REQUEST.client_order_id, event)
    return state


def _events(word: str, order: Order) -> tuple[Event, ...]:
    if word in FILLS:
        return (FILLS[word],)
    if word[0] in _SNAPSHOTS and word[1:].isdigit():
        return from_snapshot(order, _snapshot(word), waited_s=GRACE_S, market_price=Decimal(100)).events
    return (Event(Happening(word)),)


def _snapshot(word: str) -> BrokerOrder:
    request, filled = REQUEST, Decimal(word[1:])
    status = _SNAPSHOTS[word[0]]
    return BrokerOrder(
        request.client_order_id, "b1", request.symbol, request.side, request.quantity, filled, status, NOW
    )
