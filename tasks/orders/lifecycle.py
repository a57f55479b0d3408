"""Event → new state of an order. Pure: no clock, no broker, no journal.

Whoever applies an event writes it down first. An event that cannot happen is answered with an anomaly and changes
nothing; it is never raised into the task that reads the broker's stream, and never dropped.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec.structs import replace

from tasks.orders.order import TERMINAL, ZERO, Fill, Order, Pending, Status
from tasks.orders.states import TRANSITIONS, Happening


class Event(msgspec.Struct, frozen=True):
    """Something learned about an order.

    Attributes:
        kind: What happened. The three kinds of fill are told apart here, not by the sender: send `FILLED_PART`.
        fill: The execution, for a fill.
        trade_id: The trade that is taken back, for a bust.
        broker_order_id: The broker's id, where the message named one.
        quantity: The new total quantity, for a replacement.
        limit_price: The new price, for a replacement.
        reason: In the words of whoever said it.
    """

    kind: Happening
    fill: Fill | None = None
    trade_id: str = ""
    broker_order_id: str = ""
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    reason: str = ""


class Applied(msgspec.Struct, frozen=True):
    """What an event did.

    Attributes:
        order: The order afterwards; the same object where nothing changed.
        anomaly: Why the event cannot have happened, empty where it can.
        duplicate: The fill was known already.
        query: The broker should be asked about the order.
        alert: A person should know.
    """

    order: Order
    anomaly: str = ""
    duplicate: bool = False
    query: bool = False
    alert: str = ""


def apply(order: Order, event: Event) -> Applied:
    """Return what an event makes of an order.

    Fills are counted once for ever, by trade id; a second report of one changes nothing, one with other figures is an
    anomaly and the first stays. A fill that comes before its acknowledgement implies it.
    """
    if event.fill is not None:
        return _apply_fill(order, event.fill, event)
    if event.kind is Happening.BUSTED:
        return _apply_bust(order, event)
    cell = TRANSITIONS[event.kind, order.status]
    if cell.anomaly:
        return _anomaly(order, event.kind)
    if cell.resurrect:
        status = Status.ACCEPTED if event.kind is Happening.ACKED else Status.PENDING_NEW
        return _resurrected(_named(order, event), status)
    changed = _named(_overlaid(order, event.kind), event)
    if cell.recount:
        changed = _recounted(_replaced(changed, event))
    if cell.status is not None:
        changed = _moved(changed, cell.status, event.reason)
    return Applied(changed, query=cell.query, alert=_alert(order, event.kind))


def _apply_fill(order: Order, fill: Fill, event: Event) -> Applied:
    known = next((one for one in order.fills if one.trade_id == fill.trade_id), None)
    if known is not None:
        told = replace(fill, inferred=False, other_fees=known.other_fees)  # which older lines do not know
        if replace(known, inferred=False, timestamp=fill.timestamp) == told:
            return Applied(order, duplicate=True)
        return Applied(order, anomaly=f"trade {fill.trade_id} reported again with other figures", alert="fill conflict")
    fills = (*_without_inferred(order.fills, fill), fill)
    total = sum((one.quantity for one in fills), ZERO)
    changed = replace(_named(order, event), fills=fills)
    if total == order.filled_quantity:  # the broker tells of what was made up before
        return Applied(changed)
    kind = _fill_kind(total, order.request.quantity)
    cell = TRANSITIONS[kind, order.status]
    if cell.anomaly:  # position truth beats tidiness: the fill counts whatever the table says
        return Applied(
            changed.flagged("unexpected_fill"), anomaly=f"{kind} while {order.status}", alert="unexpected fill"
        )
    if order.status in (Status.CANCELED, Status.EXPIRED):
        changed = changed.flagged("late_fill")
    if kind is Happening.FILLED_OVER:
        changed = changed.flagged("overfilled")
    if cell.resurrect:
        status = Status.PARTIALLY_FILLED if kind is Happening.FILLED_PART else Status.FILLED
        return _resurrected(changed, status)
    alert = "overfill" if kind is Happening.FILLED_OVER else ""
    return Applied(_moved(changed, cell.status or order.status, order.reason), alert=alert)


def _fill_kind(total: Decimal, quantity: Decimal) -> Happening:
    if total > quantity:
        return Happening.FILLED_OVER
    return Happening.FILLED_ALL if total == quantity else Happening.FILLED_PART


def _without_inferred(fills: tuple[Fill, ...], real: Fill) -> tuple[Fill, ...]:
    """Return the fills with as much inferred quantity taken out as a real fill now explains."""
    if real.inferred:
        return fills
    left, kept = real.quantity, []
    for fill in fills:
        if fill.inferred and left > 0:
            taken = min(fill.quantity, left)
            left -= taken
            if fill.quantity > taken:
                kept.append(replace(fill, quantity=fill.quantity - taken))
        else:
            kept.append(fill)
    return tuple(kept)


def _apply_bust(order: Order, event: Event) -> Applied:
    fills = tuple(fill for fill in order.fills if fill.trade_id != event.trade_id)
    cell = TRANSITIONS[Happening.BUSTED, order.status]
    if cell.anomaly or len(fills) == len(order.fills):
        return _anomaly(order, Happening.BUSTED)
    changed = replace(order, fills=fills)
    if cell.recount:
        changed = _recounted(changed)
    return Applied(changed.flagged("busted"), alert="trade busted")


def _recounted(order: Order) -> Order:
    """Return a working or filled order in the state that its fills and its quantity make."""
    if order.filled_quantity >= order.request.quantity:
        return _moved(order, Status.FILLED, "")
    return replace(order, status=Status.PARTIALLY_FILLED if order.fills else Status.ACCEPTED)


#: What an event makes of the unanswered request.
_OVERLAYS = {
    Happening.CANCEL_REQUESTED: Pending.CANCEL,
    Happening.REPLACE_REQUESTED: Pending.REPLACE,
    Happening.CANCEL_ACKED: Pending.NONE,
    Happening.CANCEL_REFUSED: Pending.NONE,
    Happening.REPLACED: Pending.NONE,
    Happening.REPLACE_REFUSED: Pending.NONE,
}


def _overlaid(order: Order, kind: Happening) -> Order:
    """Return the order with the unanswered request set or cleared."""
    pending = _OVERLAYS.get(kind)
    if pending is None or (pending is not Pending.NONE and order.is_terminal):
        return order
    return replace(order, pending=pending)


def _replaced(order: Order, event: Event) -> Order:
    request = order.request
    return replace(
        order,
        request=replace(
            request,
            quantity=request.quantity if event.quantity is None else event.quantity,
            limit_price=request.limit_price if event.limit_price is None else event.limit_price,
        ),
    )


def _moved(order: Order, status: Status, reason: str) -> Order:
    """Return the order in a new state; one that has ended has no unanswered request."""
    pending = Pending.NONE if status in TERMINAL else order.pending
    return replace(order, status=status, pending=pending, reason=reason or order.reason)


def _named(order: Order, event: Event) -> Order:
    if not event.broker_order_id or event.broker_order_id in order.broker_order_ids:
        return order
    return replace(order, broker_order_ids=(*order.broker_order_ids, event.broker_order_id))


def _resurrected(order: Order, status: Status) -> Applied:
    changed = _moved(order, status, "").flagged("resurrected")
    return Applied(changed, query=True, alert="order came back to life")


def _anomaly(order: Order, kind: Happening) -> Applied:
    return Applied(order, anomaly=f"{kind} while {order.status}")


def _alert(order: Order, kind: Happening) -> str:
    gone = kind is Happening.PROVED_ABSENT and order.status in (Status.ACCEPTED, Status.PARTIALLY_FILLED)
    return "the broker no longer knows a working order" if gone else ""
