"""What a broker's report means for an order of ours, as events of its lifecycle. Pure.

A snapshot's filled quantity is never added to anything: it is compared with the sum of the fills. What is missing is
named, so that the caller fetches the trades, and the order's end waits for them. Only when the grace period is over is
the rest made up as one inferred fill, under an id that every replay gives again; real trades take its place later.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.orders.lifecycle import Event
from tasks.orders.order import TERMINAL, ZERO, Fill, Order, Status
from tasks.orders.states import Happening

#: How long a snapshot may be ahead of the trades before they are made up.
GRACE_S = 5.0

#: What a snapshot's status means where our order does not stand there yet.
_HAPPENINGS: dict[Status, Happening] = {
    Status.PENDING_NEW: Happening.ACKED_PENDING,
    Status.ACCEPTED: Happening.ACKED,
    Status.PARTIALLY_FILLED: Happening.ACKED,
    Status.FILLED: Happening.ACKED,
    Status.CANCELED: Happening.CANCEL_ACKED,
    Status.EXPIRED: Happening.EXPIRED,
    Status.REJECTED: Happening.REJECTED,
}

#: Where an acknowledgement is news.
_UNACKNOWLEDGED = frozenset(
    {
        Status.INITIALIZED,
        Status.DENIED,
        Status.SUBMITTING,
        Status.IN_DOUBT,
        Status.PENDING_NEW,
        Status.REJECTED,
        Status.NOT_PLACED,
    }
)


@dataclass(frozen=True, slots=True)
class Translation:
    """What a report means.

    Attributes:
        events: To be applied in this order.
        missing: Quantity that the broker says is filled and no trade explains yet: fetch the trades.
        anomaly: Why the report cannot be about this order as we know it, empty where it can.
    """

    events: tuple[Event, ...] = ()
    missing: Decimal = ZERO
    anomaly: str = ""


def from_fill(order: Order, report: BrokerFill) -> Translation:
    """Return what an execution means; whether it was counted before is the lifecycle's to tell."""
    wrong = _mismatch(order, report.symbol, report.side) or _nonsense(report.fill)
    if wrong:
        return Translation(anomaly=wrong)
    return Translation(
        (Event(Happening.FILLED_PART, fill=report.fill, broker_order_id=report.broker_order_id, reason="fill"),)
    )


def from_snapshot(
    order: Order, seen: BrokerOrder, *, waited_s: float = 0.0, market_price: Decimal | None = None
) -> Translation:
    """Return what a snapshot means.

    Args:
        order: As we know it.
        seen: As the broker says it is.
        waited_s: How long trades have been missing by now; from `GRACE_S` on they are inferred.
        market_price: What to take for an inferred fill where neither broker nor order names a price.
    """
    wrong = _mismatch(order, seen.symbol, seen.side) or _contradiction(order, seen)
    if wrong:
        return Translation(anomaly=wrong)
    missing = seen.filled_quantity - order.filled_quantity
    if missing < 0:
        return Translation()  # older than the fills we have
    events = _acknowledgement(order, seen)
    if missing > 0:
        fill = inferred_fill(order, seen, market_price) if waited_s >= GRACE_S else None
        if fill is None:
            return Translation(events, missing)
        made_up = Event(Happening.FILLED_PART, fill=fill, broker_order_id=seen.broker_order_id, reason="inferred")
        events = (*events, made_up)
    return Translation((*events, *_end(order, seen)))


def inferred_fill(order: Order, seen: BrokerOrder, market_price: Decimal | None = None) -> Fill | None:
    """Return the one fill that would explain a snapshot, None where nothing is missing or no price is known.

    Its price is what the known fills leave of the broker's average, else the limit, else the market's; its fee is zero
    until the real trade tells.
    """
    missing = seen.filled_quantity - order.filled_quantity
    price = _left_of_average(order, seen, missing) or order.request.limit_price or market_price
    if missing <= 0 or price is None:
        return None
    identifier = f"inferred-{seen.broker_order_id or seen.client_order_id}-{_plain(seen.filled_quantity)}"
    return Fill(identifier, price, missing, ZERO, seen.updated_at, inferred=True)


def _mismatch(order: Order, symbol: str, side: str) -> str:
    request = order.request
    if (symbol, side) == (request.symbol, request.side):
        return ""
    return f"{request.client_order_id}: expected {request.side} {request.symbol}, the broker reports {side} {symbol}"


def _nonsense(fill: Fill) -> str:
    figures = (fill.price, fill.quantity, fill.fee, fill.base_fee or ZERO)
    if all(figure.is_finite() for figure in figures) and fill.price > 0 and fill.quantity > 0:
        return ""
    return (
        f"trade {fill.trade_id}: expected finite figures and a quantity above 0, found {fill.quantity} at {fill.price}"
    )


def _contradiction(order: Order, seen: BrokerOrder) -> str:
    request, name = order.request, order.request.client_order_id
    if seen.quantity != request.quantity:
        return f"{name}: expected quantity {request.quantity}, the broker reports {seen.quantity}"
    if seen.status is Status.FILLED and seen.filled_quantity < seen.quantity:
        return f"{name}: reported as filled with {seen.filled_quantity} of {seen.quantity}"
    ends_anew = seen.status in TERMINAL and seen.status is not order.status  # else it is older than a late fill
    if ends_anew and seen.filled_quantity < order.filled_quantity:
        return f"{name}: ended with {seen.filled_quantity} filled, our fills make {order.filled_quantity}"
    return ""


def _acknowledgement(order: Order, seen: BrokerOrder) -> tuple[Event, ...]:
    """Return the acknowledgement that a snapshot implies, where it is news; an end needs none of its own."""
    kind = _HAPPENINGS[seen.status]
    if seen.filled_quantity > 0:
        kind = Happening.ACKED
    if kind not in (Happening.ACKED, Happening.ACKED_PENDING):
        return ()
    known = seen.broker_order_id in ("", *order.broker_order_ids)
    stands = order.status is Status.PENDING_NEW and kind is Happening.ACKED_PENDING
    if known and (stands or order.status not in _UNACKNOWLEDGED):
        return ()
    return (Event(kind, broker_order_id=seen.broker_order_id),)


def _end(order: Order, seen: BrokerOrder) -> tuple[Event, ...]:
    """Return the end that a snapshot reports; filled is told by fills alone."""
    if seen.status not in TERMINAL or seen.status is Status.FILLED or seen.status is order.status:
        return ()
    return (Event(_HAPPENINGS[seen.status], broker_order_id=seen.broker_order_id, reason=seen.reason),)


def _left_of_average(order: Order, seen: BrokerOrder, missing: Decimal) -> Decimal | None:
    if seen.average_price is None or seen.average_price <= 0 or missing <= 0:
        return None
    known = sum((fill.price * fill.quantity for fill in order.fills), ZERO)
    left = (seen.average_price * seen.filled_quantity - known) / missing
    return left if left > 0 else seen.average_price


def _plain(quantity: Decimal) -> str:
    return f"{quantity.normalize():f}"
