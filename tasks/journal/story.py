"""An order's whole story out of the journal: signal, risk, intent, replies, fills, and where it stands, with times."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tasks.errors import InputError
from tasks.journal.entries import Kind, Line, encode
from tasks.journal.reading import read_lines
from tasks.journal.state import State
from tasks.orders.lifecycle import Event
from tasks.orders.order import ARTICLE_STATUS, Order


def story(database: sqlite3.Connection, client_order_id: str) -> Iterator[str]:
    """Yield an order's story, a line of text for each line of the journal, and then where it stands.

    Raises:
        InputError: The journal knows no such order.
    """
    state, first_ns = State(), 0
    for line in read_lines(database, client_order_id):
        first_ns = first_ns or line.wall_ns
        before = state.orders.get(client_order_id)
        state.take_line(line)
        moment = datetime.fromtimestamp(line.wall_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        passed = f"+{(line.wall_ns - first_ns) / 1e9:.3f} s"
        told = _told(line, before, state.orders.get(client_order_id))
        yield f"{moment}  {passed:>12}  start {line.epoch}  {line.kind:<8}  {told}"
    order = state.orders.get(client_order_id)
    if order is None:
        raise InputError(f"order {client_order_id}: expected one on record, found none; ids are 18 characters: kh…")
    yield from _standing(order)


def _told(line: Line, before: Order | None, after: Order | None) -> str:
    body = line.body()
    if line.kind == Kind.CREATED:
        price = f" at {body.limit_price}" if body.limit_price else ""
        return f"{body.side} {body.quantity} {body.symbol} {body.order_type}{price} {body.time_in_force}"
    if isinstance(body, Event):
        return _event(body, before, after)
    verdict = body.get("verdict") if line.kind == Kind.RISK and isinstance(body, dict) else None
    if isinstance(verdict, dict):
        said = "passed" if verdict["passed"] else f"refused by {verdict['refused_by']}: {verdict['reason']}"
        return f"{said}; asked {', '.join(verdict['checked'])}; saw {_plain(body.get('inputs'))}"
    return _plain(body)


def _event(event: Event, before: Order | None, after: Order | None) -> str:
    moved = f" → {after.status}" if before and after and before.status is not after.status else ""
    fill = event.fill
    trade = f" {fill.quantity} at {fill.price}, fee {fill.fee}, trade {fill.trade_id}" if fill else ""
    why = f" ({event.reason})" if event.reason and event.reason != "fill" else ""
    return f"{event.kind}{trade}{moved}{why}"


def _standing(order: Order) -> Iterator[str]:
    yield ""
    flags = "".join(f", {flag}" for flag in sorted(order.flags))
    yield f"stands     {order.status}{flags} (in the article's words: {ARTICLE_STATUS[order.status]})"
    average = "" if order.average_price is None else f" at {order.average_price} on average, fees {order.fees}"
    yield f"filled     {order.filled_quantity} of {order.request.quantity}{average}"
    yield f"strategy   {order.request.strategy}, signal {order.request.signal_key}"
    yield f"broker ids {' '.join(order.broker_order_ids) or 'none'}"


def _plain(body: Any) -> str:
    return encode(body).decode()
