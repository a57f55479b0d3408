"""The order state change matrices of FIX (4.2 appendix D, 5.0 for F.1.b and J.1.b), row by row.

FIX shows a pending cancel or replace as a status of its own that hides what is beneath; here it is an overlay, so that
status, overlay, CumQty and LeavesQty are compared. An order that is filled has no overlay any more (FIX B.1.c shows
"pending cancel" until the cancel is refused; the end is the same).
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tasks.journal.entries import Entry, Kind
from tasks.journal.state import State
from tasks.orders.lifecycle import Event
from tasks.orders.order import TERMINAL, Fill, Order, OrderRequest, Side
from tasks.orders.states import Happening

REQUEST = OrderRequest("X", "a", "S", Side.BUY, Decimal(10_000))
SENT = Happening.SUBMIT_INTENDED
NOW = datetime(2026, 1, 1, tzinfo=UTC)

#: Matrix, and its rows: what happens, then OrdStatus, overlay, CumQty, LeavesQty. ``+3000`` is an execution
#: (named by its place, ``B+3000`` by a letter), ``-B`` the cancel of execution B, ``=7000`` a replacement.
MATRICES = {
    "D1 filled order": "acked accepted none 0 10000; +2000 partially_filled none 2000 8000;"
    "+1000 partially_filled none 3000 7000; +7000 filled none 10000 0",
    "D2 part-filled day order, done for day": "acked accepted none 0 10000; +2000 partially_filled none 2000 8000;"
    "expired expired none 2000 0",
    "D3 cancel of a zero-filled order": "acked accepted none 0 10000; cancel_requested accepted cancel 0 10000;"
    "cancel_acked canceled none 0 0",
    "D3 refused by the trader": "acked accepted none 0 10000; cancel_requested accepted cancel 0 10000;"
    "cancel_refused accepted none 0 10000",
    "D4 executions while a cancel is pending": "acked accepted none 0 10000; +2000 partially_filled none 2000 8000;"
    "cancel_requested partially_filled cancel 2000 8000; +3000 partially_filled cancel 5000 5000;"
    "+1000 partially_filled cancel 6000 4000; cancel_acked canceled none 6000 0",
    "D4 refused": "acked accepted none 0 10000; +2000 partially_filled none 2000 8000;"
    "cancel_requested partially_filled cancel 2000 8000; +3000 partially_filled cancel 5000 5000;"
    "cancel_refused partially_filled none 5000 5000",
    "D5 filled before the cancel is accepted": "acked accepted none 0 10000; +2000 partially_filled none 2000 8000;"
    "cancel_requested partially_filled cancel 2000 8000; +3000 partially_filled cancel 5000 5000;"
    "+5000 filled none 10000 0; cancel_refused filled none 10000 0",
    "D6 a zero-filled order is increased": "acked accepted none 0 10000; replace_requested accepted replace 0 10000;"
    "=11000 accepted none 0 11000; +1000 partially_filled none 1000 10000; +2000 partially_filled none 3000 8000",
    "D7 increased, execution while pending": "acked accepted none 0 10000; +1000 partially_filled none 1000 9000;"
    "replace_requested partially_filled replace 1000 9000; +100 partially_filled replace 1100 8900;"
    "=12000 partially_filled none 1100 10900; +10900 filled none 12000 0",
    "D8 a filled order is increased": "acked accepted none 0 10000; +10000 filled none 10000 0;"
    "=12000 partially_filled none 10000 2000; +2000 filled none 12000 0",
    "D9 a replacement is refused, as a fill came first": "acked accepted none 0 10000;"
    "+1000 partially_filled none 1000 9000; replace_requested partially_filled replace 1000 9000;"
    "+9000 filled none 10000 0; replace_refused filled none 10000 0",
    "D10 decreased above what is filled": "acked accepted none 0 10000; replace_requested accepted replace 0 10000;"
    "+7000 partially_filled replace 7000 3000; =8000 partially_filled none 7000 1000; +1000 filled none 8000 0",
    "D11 decreased to what is filled": "acked accepted none 0 10000; replace_requested accepted replace 0 10000;"
    "+7000 partially_filled replace 7000 3000; =7000 filled none 7000 0",
    "D12 decreased below what is filled: amended to it": "acked accepted none 0 10000;"
    "replace_requested accepted replace 0 10000; +7000 partially_filled replace 7000 3000; =7000 filled none 7000 0",
    "D13 two replacements, both accepted": "acked accepted none 0 10000; +1000 partially_filled none 1000 9000;"
    "replace_requested partially_filled replace 1000 9000; =8000 partially_filled none 1000 7000;"
    "replace_requested partially_filled replace 1000 7000; =6000 partially_filled none 1000 5000",
    "D14 the first replacement refused, the second accepted": "acked accepted none 0 10000;"
    "replace_requested accepted replace 0 10000; replace_refused accepted none 0 10000;"
    "replace_requested accepted replace 0 10000; =6000 accepted none 0 6000",
    "D19 unsolicited cancel of a part-filled order": "acked accepted none 0 10000;"
    "+1000 partially_filled none 1000 9000; cancel_acked canceled none 1000 0",
    "unsolicited replacement of a part-filled order": "acked accepted none 0 10000;"
    "+1000 partially_filled none 1000 9000; =9000 partially_filled none 1000 8000",
    "rejected at once": "rejected rejected none 0 0",
    "pending new, then working": "acked_pending pending_new none 0 10000; acked accepted none 0 10000",
    "FOK that cannot be filled": "acked accepted none 0 10000; cancel_acked canceled none 0 0",
    "IOC, a part hit at once": "acked accepted none 0 10000; +1000 partially_filled none 1000 9000;"
    "cancel_acked canceled none 1000 0",
    "filled order, executions cancelled one after the other": "acked accepted none 0 10000;"
    "A+4000 partially_filled none 4000 6000; B+6000 filled none 10000 0; -B partially_filled none 4000 6000;"
    "-A accepted none 0 10000",
    "J.1.b cancelled order, busted execution, new execution": "acked accepted none 0 10000;"
    "B+5000 partially_filled none 5000 5000; cancel_requested partially_filled cancel 5000 5000;"
    "cancel_acked canceled none 5000 0; -B canceled none 0 0; +4000 canceled none 4000 0",
    "F.1.b the order is confirmed again": "acked accepted none 0 10000; acked accepted none 0 10000;"
    "A+1000 partially_filled none 1000 9000; A+1000 partially_filled none 1000 9000",
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_rows_of_the_matrix(matrix: str) -> None:
    """After every row of the matrix the order has its status, overlay, CumQty and LeavesQty."""
    state = State()
    state.take(Entry(Kind.CREATED, "X", REQUEST))
    state.follow("X", Event(SENT))
    for number, row in enumerate(MATRICES[matrix].split(";")):
        what, status, overlay, filled, left = row.split()
        state.follow("X", _event(what, number))
        order = state.orders["X"]
        assert _shown(order) == (status, overlay, filled, left), row


def _event(what: str, number: int) -> Event:
    if what[0] == "=":
        return Event(Happening.REPLACED, quantity=Decimal(what[1:]), broker_order_id=f"b{number}")
    if what[0] == "-":
        return Event(Happening.BUSTED, trade_id=what[1:])
    if "+" in what:
        name, quantity = what.split("+")
        fill = Fill(name or f"trade {number}", Decimal(50), Decimal(quantity), Decimal(0), NOW)
        return Event(Happening.FILLED_PART, fill=fill)
    return Event(Happening(what))


def _shown(order: Order) -> tuple[str, str, str, str]:
    assert not (order.status in TERMINAL and order.pending.value != "none")
    return order.status.value, order.pending.value, f"{order.filled_quantity}", f"{order.remaining_quantity}"


def test_there_are_enough_rows() -> None:
    """The matrices are not a sample of one or two."""
    assert len(MATRICES) >= 25
    assert sum(rows.count(";") + 1 for rows in MATRICES.values()) >= 80
