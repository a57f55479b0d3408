"""The journal's lines in a few words each, for the page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tasks.broker.port import BrokerOrder
from tasks.journal.entries import Entry, Kind
from tasks.orders.lifecycle import Event
from tasks.orders.order import OrderRequest

_LONGEST = 160


def told(at: datetime, entry: Entry) -> dict[str, Any]:
    """Return a line as plain values: when, what kind, whose, and what it says."""
    identifier = entry.client_order_id or getattr(entry.body, "client_order_id", "")
    return {
        "at_ms": round(at.timestamp() * 1000),
        "kind": str(entry.kind),
        "id": identifier,
        "text": _words(entry)[:_LONGEST],
    }


def _words(entry: Entry) -> str:
    body = entry.body
    if isinstance(body, OrderRequest):
        price = f" at {body.limit_price} {body.time_in_force.upper()}" if body.limit_price else ""
        return f"{body.side} {body.quantity} {body.symbol}, {body.order_type}{price}"
    if isinstance(body, Event):
        return _event(body)
    if not isinstance(body, dict):
        return ""
    if entry.kind is Kind.RISK and "verdict" in body:
        verdict = body["verdict"]
        return "passed every control" if verdict.passed else f"refused by {verdict.refused_by}: {verdict.reason}"
    if entry.kind is Kind.SIGNAL and "signal" in body:
        return _signal(body)
    if entry.kind is Kind.DAY:
        agreed = "all agrees" if body["agreed"] else f"differing: {', '.join(body['differing'])}"
        return f"{body['day']}: profit {body['profit']:+.2f}, fees {body['fees']:.2f}, {body['fills']} fills, {agreed}"
    if entry.kind is Kind.DATA:
        count = f", {body['bars']} bars" if "bars" in body else ", after this was decided"
        return f"{body.get('cause', 'data')} of {body.get('symbol', '')}{count}"
    hidden = ("values", "report") if entry.kind in (Kind.ACCOUNT, Kind.LIMITS, Kind.RISK) else ("values",)
    return ", ".join(f"{name} {_plain(value)}" for name, value in body.items() if name not in hidden)


def _signal(body: dict[str, Any]) -> str:
    """Return what an order was decided from; the journal has all of it."""
    close = f", close {body['bar']['close']:g}" if "bar" in body else ""
    book = body.get("book")
    pressure = f", pressure {book.pressure:.2f}" if book is not None and book.pressure is not None else ""
    return f"{body['signal']}{close}{pressure}"


def _event(event: Event) -> str:
    name = str(event.kind).replace("_", " ")
    if event.fill is not None:
        return f"fill: {event.fill.quantity} at {event.fill.price}, fee {event.fill.fee}"
    return f"{name}: {event.reason}" if event.reason else name


def _plain(value: Any) -> str:
    if isinstance(value, BrokerOrder):
        return f"{value.status}, {value.filled_quantity} of {value.quantity} filled"
    return str(value)
