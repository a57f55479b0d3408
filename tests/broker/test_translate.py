"""Reports of a broker as events of our orders: a table, and every race between snapshots and fills."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.broker.translate import (
    GRACE_S,
    from_fill,
    from_snapshot,
    inferred_fill,
)
from tasks.orders.lifecycle import apply
from tasks.orders.order import Fill, Order, OrderRequest, OrderType, Pending, Side, Status
from tasks.orders.states import Happening

D = Decimal
NOON = datetime(2025, 3, 4, 12, tzinfo=UTC)
REQUEST = OrderRequest("kh1", "acc", "BTC", Side.BUY, D(10), OrderType.LIMIT, D(100))
SENT = Order(REQUEST, Status.SUBMITTING)
WORKING = Order(REQUEST, Status.ACCEPTED, broker_order_ids=("b1",))


def snapshot(status: Status, filled: str = "0", **changes: object) -> BrokerOrder:
    """Return the broker's view of the order."""
    return replace(BrokerOrder("kh1", "b1", "BTC", Side.BUY, D(10), D(filled), status, NOON), **changes)


def execution(trade_id: str, quantity: str, price: str = "99") -> BrokerFill:
    """Return a reported execution."""
    return BrokerFill("kh1", "b1", "BTC", Side.BUY, Fill(trade_id, D(price), D(quantity), D("0.1"), NOON))


def partly(*quantities: str) -> Order:
    """Return a working order with fills."""
    order = WORKING
    for number, quantity in enumerate(quantities):
        order = apply(order, from_fill(order, execution(f"t{number}", quantity)).events[0]).order
    return order


@pytest.mark.parametrize(
    ("order", "seen", "kinds"),
    [
        (SENT, snapshot(Status.PENDING_NEW), ["acked_pending"]),
        (SENT, snapshot(Status.ACCEPTED), ["acked"]),
        (SENT, snapshot(Status.CANCELED), ["cancel_acked"]),
        (SENT, snapshot(Status.EXPIRED), ["expired"]),
        (SENT, snapshot(Status.REJECTED), ["rejected"]),
        (structs.replace(SENT, status=Status.IN_DOUBT), snapshot(Status.ACCEPTED), ["acked"]),
        (structs.replace(SENT, status=Status.NOT_PLACED), snapshot(Status.ACCEPTED), ["acked"]),
        (structs.replace(WORKING, status=Status.PENDING_NEW), snapshot(Status.PENDING_NEW), []),
        (structs.replace(WORKING, status=Status.PENDING_NEW), snapshot(Status.ACCEPTED), ["acked"]),
        (WORKING, snapshot(Status.ACCEPTED), []),
        (WORKING, snapshot(Status.PENDING_NEW), []),
        (WORKING, snapshot(Status.ACCEPTED, broker_order_id="b2"), ["acked"]),
        (structs.replace(WORKING, pending=Pending.CANCEL), snapshot(Status.ACCEPTED), []),
        (WORKING, snapshot(Status.CANCELED), ["cancel_acked"]),
        (structs.replace(WORKING, status=Status.CANCELED), snapshot(Status.CANCELED), []),
        (partly("3"), snapshot(Status.PARTIALLY_FILLED, "3"), []),
        (partly("3"), snapshot(Status.CANCELED, "3"), ["cancel_acked"]),
        (partly("3", "7"), snapshot(Status.FILLED, "10"), []),
        (partly("3"), snapshot(Status.ACCEPTED, "0"), []),
        (partly("3"), snapshot(Status.PARTIALLY_FILLED, "2"), []),
        (structs.replace(partly("3"), status=Status.CANCELED), snapshot(Status.CANCELED, "2"), []),
    ],
)
def test_snapshots(order: Order, seen: BrokerOrder, kinds: list[str]) -> None:
    """A snapshot says only what is news; one older than our fills says nothing."""
    translation = from_snapshot(order, seen)
    assert [event.kind.value for event in translation.events] == kinds
    assert (translation.missing, translation.anomaly) == (0, "")


@pytest.mark.parametrize(
    ("seen", "kinds"),
    [
        (snapshot(Status.PARTIALLY_FILLED, "4"), ["filled_part"]),
        (snapshot(Status.CANCELED, "4"), ["filled_part", "cancel_acked"]),
        (snapshot(Status.EXPIRED, "4"), ["filled_part", "expired"]),
        (snapshot(Status.FILLED, "10"), ["filled_part"]),
    ],
)
def test_missing_trades_are_asked_for_before_they_are_made_up(seen: BrokerOrder, kinds: list[str]) -> None:
    """Within the grace period nothing is added and the end waits; after it one inferred fill comes first."""
    early = from_snapshot(WORKING, seen, waited_s=GRACE_S - 0.1)
    assert (early.events, early.missing) == ((), seen.filled_quantity)
    late = from_snapshot(WORKING, seen, waited_s=GRACE_S)
    assert [event.kind.value for event in late.events] == kinds
    fill = late.events[0].fill
    assert fill is not None
    assert (fill.inferred, fill.quantity, fill.price, fill.fee) == (True, seen.filled_quantity, 100, 0)


def test_an_unacknowledged_order_is_acknowledged_while_trades_are_missing() -> None:
    """The doubt ends with the snapshot even where its trades are not known yet."""
    translation = from_snapshot(SENT, snapshot(Status.FILLED, "10"))
    assert [event.kind for event in translation.events] == [Happening.ACKED]
    assert translation.missing == 10


def test_an_inferred_fill_is_the_same_whenever_it_is_made() -> None:
    """Two starts that see the same snapshot make the same fill, so that it counts once."""
    first = inferred_fill(WORKING, snapshot(Status.PARTIALLY_FILLED, "4"))
    again = inferred_fill(WORKING, snapshot(Status.PARTIALLY_FILLED, "4.000"))
    assert first is not None
    assert first == again
    assert first.trade_id == "inferred-b1-4"


@pytest.mark.parametrize(
    ("order", "average", "market", "price"),
    [
        (partly("1"), D(102), None, D(103)),  # (102·4 − 99·1) / 3
        (partly("1"), D(1), None, D(1)),  # an average that cannot be: taken as it is
        (WORKING, None, D(55), D(100)),
        (Order(structs.replace(REQUEST, order_type=OrderType.MARKET, limit_price=None)), None, D(55), D(55)),
        (Order(structs.replace(REQUEST, order_type=OrderType.MARKET, limit_price=None)), None, None, None),
    ],
)
def test_the_price_of_an_inferred_fill(
    order: Order, average: Decimal | None, market: Decimal | None, price: Decimal | None
) -> None:
    """What the average leaves, else the limit, else the market's price; without any there is no fill."""
    fill = inferred_fill(order, snapshot(Status.PARTIALLY_FILLED, "4", average_price=average), market)
    assert (None if fill is None else fill.price) == price


@pytest.mark.parametrize(
    ("order", "seen", "words"),
    [
        (WORKING, snapshot(Status.ACCEPTED, symbol="ETH"), "reports buy ETH"),
        (WORKING, snapshot(Status.ACCEPTED, side=Side.SELL), "reports sell BTC"),
        (WORKING, snapshot(Status.ACCEPTED, quantity=D(11)), "reports 11"),
        (WORKING, snapshot(Status.FILLED, "9"), "filled with 9 of 10"),
        (partly("3"), snapshot(Status.CANCELED, "2"), "our fills make 3"),
    ],
)
def test_what_cannot_be_about_our_order_is_an_anomaly(order: Order, seen: BrokerOrder, words: str) -> None:
    """A report that contradicts the order changes nothing and says why."""
    translation = from_snapshot(order, seen, waited_s=60)
    assert translation.events == ()
    assert words in translation.anomaly


def test_a_fill_of_another_side_is_an_anomaly() -> None:
    """An execution that is attributed to the wrong order is not counted."""
    translation = from_fill(WORKING, replace(execution("t", "1"), side=Side.SELL))
    assert translation.events == ()
    assert "sell" in translation.anomaly


_QUANTITIES = ("3", "1", "4", "2")


def _history(end: Status) -> list[BrokerOrder | BrokerFill]:
    """Return what a broker says about an order that fills three times or four and then ends."""
    filled, said = D(0), [snapshot(Status.ACCEPTED)]
    for number, quantity in enumerate(_QUANTITIES if end is Status.FILLED else _QUANTITIES[:3]):
        filled += D(quantity)
        status = Status.FILLED if filled == 10 else Status.PARTIALLY_FILLED
        said += [execution(f"t{number}", quantity), snapshot(status, str(filled), average_price=D(99))]
    return said if end is Status.FILLED else [*said, snapshot(end, str(filled), average_price=D(99))]


@settings(max_examples=400)
@given(
    end=st.sampled_from([Status.FILLED, Status.CANCELED, Status.EXPIRED]),
    picks=st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=30),
    shuffled=st.randoms(use_true_random=False),
)
def test_snapshots_and_fills_in_any_order_count_once(end: Status, picks: list, shuffled: object) -> None:
    """However reports are reordered, repeated, and inferred in between: at the end the fills are the broker's."""
    said = _history(end)
    rest = list(said)
    shuffled.shuffle(rest)
    order = SENT
    deliveries = [(said[index % len(said)], patient) for index, patient in picks] + [(one, True) for one in rest]
    for report, patient in [*deliveries, (said[-1], False)]:
        if isinstance(report, BrokerFill):
            translation = from_fill(order, report)
        else:
            translation = from_snapshot(order, report, waited_s=0.0 if patient else GRACE_S)
        for event in translation.events:
            order = apply(order, event).order
        assert order.filled_quantity <= 10
    assert order.status is end
    assert order.filled_quantity == sum(one.fill.quantity for one in said if isinstance(one, BrokerFill))
    assert not any(fill.inferred for fill in order.fills)
