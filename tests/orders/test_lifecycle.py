"""An order's life: every event in every state, every order of events, and fills counted once for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.orders.identity import client_order_id, is_ours
from tasks.orders.lifecycle import Applied, Event, apply
from tasks.orders.order import ARTICLE_STATUS, TERMINAL, Fill, Order, OrderRequest, OrderType, Pending, Side, Status
from tasks.orders.position import Position, fold
from tasks.orders.states import COLUMNS, TRANSITIONS, Happening

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = OrderRequest("kh" + "a" * 16, "paper", "BTCUSDT", Side.BUY, Decimal(10))
FILLS = (Happening.FILLED_PART, Happening.FILLED_ALL, Happening.FILLED_OVER)


def fill(trade_id: str, quantity: int | str, price: int | str = 100, *, inferred: bool = False) -> Fill:
    """Return an execution with a fee of one."""
    return Fill(trade_id, Decimal(price), Decimal(quantity), Decimal(1), NOW, inferred)


def filled(trade_id: str, quantity: int | str, price: int | str = 100) -> Event:
    """Return the event of an execution."""
    return Event(Happening.FILLED_PART, fill=fill(trade_id, quantity, price))


def after(*events: Event | Happening, start: Order | None = None) -> Applied:
    """Apply events one after the other."""
    applied = Applied(start or Order(REQUEST))
    for event in events:
        applied = apply(applied.order, event if isinstance(event, Event) else Event(event))
    return applied


SUBMITTED = (Happening.SUBMIT_INTENDED,)
WORKING = (*SUBMITTED, Happening.ACKED)


def test_every_event_has_a_meaning_in_every_state() -> None:
    """The table is complete: no pair is left to chance."""
    assert set(TRANSITIONS) == {(happening, status) for happening in Happening for status in Status}
    assert set(COLUMNS) == set(Status) == set(ARTICLE_STATUS)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", [kind for kind in Happening if kind not in (*FILLS, Happening.BUSTED)])
def test_events_follow_the_table(kind: Happening, status: Status) -> None:
    """What the table says is what happens: the next state, an anomaly, a question, or a return to life."""
    cell = TRANSITIONS[kind, status]
    before = Order(REQUEST, status=status)
    applied = apply(before, Event(kind))
    if cell.anomaly:
        assert applied.anomaly
        assert applied.order is before
    elif cell.resurrect:
        assert "resurrected" in applied.order.flags
        assert applied.order.status not in TERMINAL
    elif cell.recount:
        assert applied.order.status is Status.ACCEPTED  # nothing is filled
    else:
        assert applied.order.status is (cell.status or status)
        assert applied.query == cell.query


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("quantity", [4, 10, 11])
def test_a_fill_counts_in_every_state(status: Status, quantity: int) -> None:
    """Position truth beats tidiness: whatever the state, the fill is in the order afterwards."""
    applied = apply(Order(REQUEST, status=status), filled("t1", quantity))
    assert applied.order.filled_quantity == quantity
    assert ("overfilled" in applied.order.flags) == (quantity > 10 and not applied.anomaly)


def test_a_fill_before_its_acknowledgement_implies_it() -> None:
    """Streams and replies race; both orders of arrival end alike."""
    assert after(*SUBMITTED, filled("t1", 4)).order.status is Status.PARTIALLY_FILLED
    assert after(*SUBMITTED, filled("t1", 4), Happening.ACKED).order.status is Status.PARTIALLY_FILLED


def test_a_late_fill_counts_and_the_order_stays_cancelled() -> None:
    """FIX J.1.b: the status stays, the quantity grows; only a fill in whole makes it filled (D11)."""
    cancelled = after(*WORKING, Happening.CANCEL_REQUESTED, Happening.CANCEL_ACKED).order
    late = apply(cancelled, filled("t1", 4)).order
    assert (late.status, late.filled_quantity) == (Status.CANCELED, 4)
    assert "late_fill" in late.flags
    assert apply(late, filled("t2", 6)).order.status is Status.FILLED


def test_filled_wins_over_cancelled() -> None:
    """A cancel that was too late does not undo a fill."""
    order = after(*WORKING, Happening.CANCEL_REQUESTED, filled("t1", 10)).order
    assert (order.status, order.pending) == (Status.FILLED, Pending.NONE)
    assert apply(order, Event(Happening.CANCEL_ACKED)).order.status is Status.FILLED


def test_a_refused_cancel_is_a_question_not_an_answer() -> None:
    """The words "unknown order" on a cancel may mean filled, cancelled or lost: the broker is asked."""
    applied = after(*WORKING, Happening.CANCEL_REQUESTED, Happening.CANCEL_REFUSED)
    assert applied.query
    assert applied.order.pending is Pending.NONE
    assert applied.order.status is Status.ACCEPTED


def test_no_answer_is_doubt_and_never_rejection() -> None:
    """A timeout leaves the order in doubt until a definite answer, whichever that is."""
    doubtful = after(*SUBMITTED, Happening.OUTCOME_UNKNOWN).order
    assert doubtful.status is Status.IN_DOUBT
    assert doubtful.remaining_quantity == 10
    assert apply(doubtful, Event(Happening.NOT_FOUND)).order.status is Status.IN_DOUBT
    assert apply(doubtful, Event(Happening.PROVED_ABSENT)).order.status is Status.NOT_PLACED
    assert apply(doubtful, Event(Happening.ACKED)).order.status is Status.ACCEPTED


def test_an_order_given_up_can_come_back() -> None:
    """The broker's word wins over our proof: a resurrected order is followed and a person told."""
    gone = after(*SUBMITTED, Happening.OUTCOME_UNKNOWN, Happening.PROVED_ABSENT).order
    applied = apply(gone, filled("t1", 4))
    assert applied.order.status is Status.PARTIALLY_FILLED
    assert "resurrected" in applied.order.flags
    assert applied.alert


def test_the_same_trade_twice_is_one_fill() -> None:
    """Replays, reconnects and snapshots report trades again; none moves the order."""
    once = after(*WORKING, filled("t1", 4)).order
    again = apply(once, filled("t1", 4))
    assert again.duplicate
    assert again.order is once
    other = apply(once, filled("t1", 5))
    assert other.anomaly
    assert other.order.filled_quantity == 4


def test_a_real_fill_takes_the_place_of_an_inferred_one() -> None:
    """A snapshot's gap was filled in; when the trades arrive the quantity is counted once."""
    inferred = Event(Happening.FILLED_PART, fill=fill("snapshot-7", 7, inferred=True))
    order = after(*WORKING, inferred, filled("t1", 3)).order
    assert order.filled_quantity == 7
    assert after(filled("t2", 4), start=order).order.filled_quantity == 7
    assert all(not one.inferred for one in after(filled("t2", 4), start=order).order.fills)


def test_a_busted_trade_is_taken_back() -> None:
    """The order reopens as far as its remaining fills say."""
    whole = after(*WORKING, filled("t1", 4), filled("t2", 6)).order
    part = apply(whole, Event(Happening.BUSTED, trade_id="t2")).order
    assert (part.status, part.filled_quantity) == (Status.PARTIALLY_FILLED, 4)
    assert apply(part, Event(Happening.BUSTED, trade_id="t1")).order.status is Status.ACCEPTED
    assert apply(part, Event(Happening.BUSTED, trade_id="t9")).anomaly


def test_a_real_fill_in_place_of_a_made_up_one_is_no_surprise() -> None:
    """A filled order whose made-up fill turns into real ones stays filled, without flag or alert."""
    made_up = Event(Happening.FILLED_PART, fill=fill("snapshot-10", 10, inferred=True))
    applied = after(*WORKING, made_up, filled("t1", 4))
    assert (applied.order.status, applied.order.filled_quantity) == (Status.FILLED, 10)
    assert not applied.order.flags
    assert (applied.alert, applied.anomaly) == ("", "")


def test_a_busted_surplus_leaves_the_order_filled() -> None:
    """Where what is left still fills the order, it does not reopen."""
    order = after(*WORKING, filled("t1", 10), filled("t2", 2), Event(Happening.BUSTED, trade_id="t2")).order
    assert (order.status, order.remaining_quantity) == (Status.FILLED, 0)


def test_a_replacement_keeps_every_id_and_the_fills() -> None:
    """Cancel-replace venues give a new id; a fill under the old one still belongs to the order."""
    order = after(*WORKING, filled("t1", 4), Happening.REPLACE_REQUESTED).order
    assert order.pending is Pending.REPLACE
    changed = apply(order, Event(Happening.REPLACED, broker_order_id="b2", quantity=Decimal(20))).order
    assert (changed.status, changed.remaining_quantity, changed.pending) == (Status.PARTIALLY_FILLED, 16, Pending.NONE)
    assert changed.broker_order_ids == ("b2",)


CANCEL, EXPIRY = Event(Happening.CANCEL_REQUESTED), Event(Happening.EXPIRED)
SCRIPTS = [
    [Event(Happening.ACKED), filled("t1", 4), filled("t2", 6)],
    [Event(Happening.ACKED), filled("t1", 4), filled("t1", 4), filled("t2", 6), filled("t2", 6)],
    [Event(Happening.OUTCOME_UNKNOWN), Event(Happening.ACKED), filled("t1", 10)],
    [Event(Happening.ACKED), CANCEL, filled("t1", 3), filled("t2", 7), Event(Happening.CANCEL_ACKED)],
    [Event(Happening.ACKED), CANCEL, filled("t1", 3), Event(Happening.CANCEL_ACKED)],
    [
        Event(Happening.ACKED_PENDING),
        Event(Happening.ACKED),
        filled("t1", 2),
        filled("t2", 3),
        Event(Happening.EXPIRED),
    ],
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_order_of_arrival_does_not_move_the_position(script: list[Event]) -> None:
    """Every permutation of a lifecycle ends with the same fills, average price and position."""
    wanted = after(*SUBMITTED, *script).order
    for events in set(permutations(script)):
        order = after(*SUBMITTED, *events).order
        assert order.filled_quantity == wanted.filled_quantity
        assert order.average_price == wanted.average_price
        assert fold((Side.BUY, one) for one in order.fills).quantity == wanted.filled_quantity


QUANTITIES = st.integers(1, 50).map(Decimal)
PRICES = st.integers(1, 1000).map(Decimal)
TRADES = st.lists(st.tuples(st.sampled_from(Side), QUANTITIES, PRICES), max_size=30)


@given(TRADES)
def test_a_position_is_the_sum_of_its_fills(trades: list[tuple[Side, Decimal, Decimal]]) -> None:
    """Quantity is the signed sum, and profit realised plus unrealised is what cash and holdings are worth."""
    position = Position()
    for number, (side, quantity, price) in enumerate(trades):
        position = position.filled(side, fill(str(number), str(quantity), str(price)))
    assert position.quantity == sum(side.sign * quantity for side, quantity, _ in trades)
    cash = -sum(side.sign * quantity * price for side, quantity, price in trades)
    mark = Decimal(500)
    worth = cash + position.quantity * mark
    assert abs(position.realised + position.unrealised(mark) - worth) < Decimal("1e-15")
    assert position.fees == len(trades)
    assert (position.average_price == 0) == (position.quantity == 0)


def test_ids_are_the_same_after_a_restart_and_differ_between_signals() -> None:
    """The same signal is the same order; another signal, strategy, account or leg is another one."""
    parts = ("paper", "ma_crossover", "BTCUSDT|cross|buy|2026-01-01T00:00:00Z")
    identifier = client_order_id(*parts)
    assert identifier == client_order_id(*parts)
    assert is_ours(identifier)
    assert len(identifier) == 18
    others = {
        client_order_id(*parts, "2"),
        client_order_id("live", *parts[1:]),
        client_order_id("pap", "er" + parts[1], parts[2]),
    }
    assert len(others | {identifier}) == 4
    assert not is_ours("x" + identifier[1:])
    with pytest.raises(InputError, match="expected account"):
        client_order_id("", *parts[1:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantity": Decimal(0)}, "above 0"),
        ({"quantity": Decimal("NaN")}, "above 0"),
        ({"limit_price": Decimal(5)}, "limit orders alone"),
        ({"order_type": OrderType.LIMIT}, "limit orders alone"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("Infinity")}, "limit price above 0"),
    ],
)
def test_an_impossible_order_is_refused_at_birth(changes: dict, said: str) -> None:
    """What no broker could take never becomes an order."""
    fields = {"client_order_id": "x", "account": "paper", "symbol": "BTCUSDT", "side": Side.BUY, "quantity": Decimal(1)}
    with pytest.raises(InputError, match=said):
        OrderRequest(**(fields | changes))
