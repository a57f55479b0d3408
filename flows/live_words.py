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
        price = f" at {body.limit_price}" if body.limit_price else ""
        return f"{body.side} {body.quantity} {body.symbol}, {body.order_type}{price}"
    if isinstance(body, Event):
        return _event(body)
    if not isinstance(body, dict):
        return ""
    if entry.kind is Kind.RISK and "verdict" in body:
        verdict = body["verdict"]
        return "passed every control" if verdict.passed else f"refused by {verdict.refused_by}: {verdict.reason}"
    return ", ".join(f"{name} {_plain(value)}" for name, value in body.items() if name != "values")


def _event(event: Event) -> str:
    name = str(event.kind).replace("_", " ")
    if event.fill is not None:
        return f"fill: {event.fill.quantity} at {event.fill.price}, fee {event.fill.fee}"
    return f"{name}: {event.reason}" if event.reason else name


def _plain(value: Any) -> str:
    if isinstance(value, BrokerOrder):
        return f"{value.status}, {value.filled_quantity} of {value.quantity} filled"
    return str(value)
