"""What a replayed market makes of an order by its own rules. What differs from that is a defect and no cause. Pure."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta

from flows.parity_causes import near
from flows.parity_paths import Case
from flows.parity_replay import UNLIMITED, LiveOrder, Script
from tasks.orders.order import Order


def arrives_at(case: Case, script: Script, decided_at: datetime) -> int | None:
    """Return the row of the first bar that has anything for an order, None where the period ends before it arrives."""
    row = _reached(case, script, decided_at)
    while row < len(case.stamps) and _bound(script, row) == 0.0:
        row += 1
    return row if row < len(case.stamps) else None


def is_thin(case: Case, script: Script, order: LiveOrder) -> bool:
    """Return whether an order got less than it asked for because each bar that it met had no more."""
    left = float(order.order.request.quantity)
    if script.terms.max_volume_share is None:
        return False
    if not order.order.fills:
        row = _reached(case, script, order.decided_at)
        return row < len(case.stamps) and _bound(script, row) == 0.0
    for fill in order.order.fills:
        got = float(fill.quantity)
        if not near(got, min(left, _bound(script, bisect_left(case.stamps, fill.timestamp)))):
            return False
        left -= got
    return True


def is_charged(script: Script, order: Order) -> bool:
    """Return whether every fill carries the broker's own rate."""
    rates = (float(fill.fee / (fill.price * fill.quantity)) * 1e4 for fill in order.fills)
    return all(near(rate, float(script.terms.fee_bps)) for rate in rates)


def may_refuse(script: Script, decided_at: datetime) -> bool:
    """Return whether there is anything that a control could refuse for."""
    return script.limits != UNLIMITED or decided_at in script.invalid


def came_in_turn(script: Script, stamp: datetime) -> bool:
    """Return whether a bar was the newest when it came in, so that it was to be decided on."""
    for arrival in script.arrivals:
        newest = arrival.bars["timestamp"][-1]
        if newest >= stamp:
            return newest == stamp
    return False


def _reached(case: Case, script: Script, decided_at: datetime) -> int:
    """Return the row of the first bar that opens once an order is at the broker."""
    return bisect_left(case.stamps, decided_at + timedelta(seconds=float(script.terms.latency_s)))


def _bound(script: Script, row: int) -> float:
    share = script.terms.max_volume_share
    return float("inf") if share is None else float(share) * float(script.fills_from["volume"][row])
