"""Order entry without a socket: checks, deadlines, idempotency and the views that may lag behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from tasks.simulator.answers import Answers
from tasks.simulator.faults import Injection, chance
from tasks.simulator.ledger import Account, Fill, Order
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.refusals import Refusal
from tasks.simulator.venue import Ticket, Venue

DEFAULT_WINDOW_MS = 5_000
MAX_WINDOW_MS = 60_000
_AHEAD_MS = 1_000  # how far a client's clock may be ahead
_TIMES_IN_FORCE = ("gtc", "ioc", "fok")
_REPLIES = ("lost_reply", "late_reply", "error_after", "throttle_after", "reset_body")


class Desk:
    """Takes orders for the venue.

    Attributes:
        faults: What goes wrong; may be replaced at any time.
        injected: Every fault that happened to a request or a push, in order.
    """

    def __init__(self, answers: Answers, venue: Venue) -> None:
        self.answers = answers
        self.venue = venue
        self.faults = OrderFaults()
        self.injected: list[Injection] = []
        self._attempts: Counter[tuple[str, str, str]] = Counter()
        self._dead_men: dict[str, float] = {}

    def fate(self, key: str, verb: str, client_order_id: str) -> tuple[float, str | None]:
        """Throw the dice for one request: how long the gateway holds it, and what becomes of it or its reply."""
        self._attempts[key, verb, client_order_id] += 1
        number = self._attempts[key, verb, client_order_id]

        def struck(fault: str) -> bool:
            hit = chance(self.faults.seed, fault, verb, client_order_id, number) < getattr(self.faults, f"{fault}_p")
            if hit:
                self.injected.append(Injection(fault, f"{verb} {client_order_id} #{number}"))
            return hit

        share = chance(self.faults.seed, "ghost_s", verb, client_order_id, number)
        delay_s = self.faults.ghost_s * share if struck("ghost") else 0.0
        before = ("error_before", "reject") if verb == "place" else ("error_before",)
        return delay_s, next((fault for fault in (*before, *_REPLIES) if struck(fault)), None)

    def ticket(self, payload: Mapping[str, Any]) -> Ticket:
        """Read an order.

        Raises:
            Refusal: 2001 for a field that is missing or of another shape, 2002 for an unknown symbol, 6003 for a
                price or quantity off its steps.
        """
        item = self.answers.instrument(_word(payload, "symbol"), payload.get("type"))
        kind, side = _one_of(payload, "order_type", ("limit", "market")), _one_of(payload, "side", ("buy", "sell"))
        in_force = "ioc" if kind == "market" else _one_of(payload, "time_in_force", _TIMES_IN_FORCE, "gtc")
        quantity = _number(payload, "quantity")
        price = _number(payload, "price") if kind == "limit" else None
        if quantity <= 0 or quantity != round(quantity, item.lot_decimals):
            raise Refusal(6003, f"quantity {quantity}: expected a positive multiple of 1e-{item.lot_decimals}")
        if price is not None and (price <= 0 or price != round(price, item.price_decimals)):
            raise Refusal(6003, f"price {price}: expected a positive multiple of 1e-{item.price_decimals}")
        return Ticket(_word(payload, "client_order_id"), item, side, kind, in_force, quantity, price)

    def check_deadline(self, payload: Mapping[str, Any]) -> None:
        """Refuse a request that is too old by now; one without a timestamp never is.

        Raises:
            Refusal: 6004 past ``timestamp + recv_window``, 2001 for a timestamp in the future or a window too long.
        """
        if payload.get("timestamp") is None or not self.faults.deadlines:
            return
        sent, window = int(_number(payload, "timestamp")), int(_number(payload, "recv_window", DEFAULT_WINDOW_MS))
        now = server_ms()
        if window > MAX_WINDOW_MS or sent > now + _AHEAD_MS:
            raise Refusal(2001, f"recv_window at most {MAX_WINDOW_MS}, timestamp at most {_AHEAD_MS} ms ahead")
        if now > sent + window:
            raise Refusal(6004, f"sent {now - sent} ms ago, recv_window {window}")

    def place(self, key: str, ticket: Ticket) -> Order:
        """Execute an order, if its client id may still be used and the account can pay for it.

        Raises:
            Refusal: 6002 with the known order as data, or 6003.
        """
        self.venue.advance()
        account = self.venue.account(key)
        known = account.by_client_id(ticket.client_order_id)
        if self.faults.uniqueness == "open":
            known = [order for order in known if order.open]
        if known and self.faults.uniqueness != "none":
            raise Refusal(6002, ticket.client_order_id, data=known[-1].describe())
        if ticket.side == "buy" and (cost := self.venue.cost(ticket)) > account.cash - self._reserved(account):
            raise Refusal(6003, f"insufficient balance for {ticket.quantity}: {cost} needed")
        return self.venue.place(key, ticket)

    def cancel(self, key: str, order: Order) -> Order:
        """Cancel an open order.

        Raises:
            Refusal: 6005 with the order as data where it is open no longer.
        """
        if not self.current(key, order).open:
            raise Refusal(6005, order.client_order_id, data=self.current(key, order).describe())
        cancelled = self.venue.cancel(key, order)
        if chance(self.faults.seed, "late_fill", order.client_order_id) < self.faults.late_fill_p:
            self.injected.append(Injection("late_fill", order.order_id))
            self.venue.fill_late(key, cancelled)
        return cancelled

    def cancel_after(self, key: str, payload: Mapping[str, Any]) -> dict[str, int]:
        """Have an account's orders cancelled in ``timeout_ms`` unless this is asked again before; 0 calls it off.

        Raises:
            Refusal: 2001 for a time below zero or above a minute.
        """
        timeout_ms = int(_number(payload, "timeout_ms"))
        if not 0 <= timeout_ms <= MAX_WINDOW_MS:
            raise Refusal(2001, f"timeout_ms: expected 0 to {MAX_WINDOW_MS}, found {timeout_ms}")
        self._dead_men.pop(key, None)
        if timeout_ms:
            self._dead_men[key] = time.monotonic() + timeout_ms / 1000
        return {"timeout_ms": timeout_ms}

    def bury(self) -> None:
        """Cancel the orders of every account that was not heard of in time."""
        for key in [key for key, at in self._dead_men.items() if time.monotonic() >= at]:
            del self._dead_men[key]
            for order in self.venue.account(key).open_orders():
                self.venue.cancel(key, order)

    def current(self, key: str, order: Order) -> Order:
        """Return the order as it stands now, without lag."""
        self.venue.advance()
        return self.venue.account(key).order(order.order_id) or order

    def find(self, key: str, query: Mapping[str, str], *, lagging: bool = True) -> Order:
        """Return the newest order of ``client_order_id``, or that of ``order_id``, as the query shows it.

        Raises:
            Refusal: 6001 where the query does not show it: never placed, not yet seen, or forgotten.
        """
        self.venue.advance()
        account = self.venue.account(key)
        as_of = time.monotonic() - self.faults.query_lag_s if lagging else None
        if query.get("order_id"):
            found = account.order(query["order_id"], as_of_s=as_of)
            orders = [found] if found else []
        elif not self.faults.client_ids:
            raise Refusal(2001, "order_id: expected, this broker does not look orders up by client_order_id")
        else:
            orders = account.by_client_id(_word(query, "client_order_id"), as_of_s=as_of)
        orders = [order for order in orders if not self._forgotten(account, order)]
        if not orders:
            raise Refusal(6001, query.get("order_id") or query["client_order_id"])
        return orders[-1]

    def orders(self, key: str, *, only_open: bool, symbol: str | None = None) -> list[Order]:
        """Return orders as the list endpoints show them, oldest first."""
        self.venue.advance()
        account = self.venue.account(key)
        as_of = time.monotonic() - self.faults.open_lag_s if only_open else None
        orders = [order for order in account.orders(as_of_s=as_of) if symbol in (None, order.item.symbol)]
        return [order for order in orders if (order.open if only_open else not self._forgotten(account, order))]

    def fills(self, key: str, query: Mapping[str, str]) -> list[Fill]:
        """Return fills, oldest first: of ``order_id`` or ``client_order_id``, of ``symbol``, from ``start_time`` on."""
        self.venue.advance()
        start, symbol = int(_number(query, "start_time", 0)), query.get("symbol")
        order_id, client_order_id = query.get("order_id"), query.get("client_order_id")
        return [
            fill
            for fill in self.venue.account(key).fills
            if fill.timestamp_ms >= start
            and symbol in (None, fill.order.item.symbol)
            and order_id in (None, fill.order.order_id)
            and client_order_id in (None, fill.order.client_order_id)
        ]

    def holdings(self, key: str) -> dict[str, Any]:
        """Return cash, what of it open buys do not claim, and positions."""
        self.venue.advance()
        account = self.venue.account(key)
        balance = {
            "currency": "USD",
            "total": str(account.cash),
            "available": str(account.cash - self._reserved(account)),
        }
        return {"balances": [balance], "positions": account.describe_positions()}

    def _reserved(self, account: Account) -> Decimal:
        buys = (order for order in account.open_orders() if order.side == "buy")
        return sum((order.left * (order.price or 0) for order in buys), Decimal(0))

    def _forgotten(self, account: Account, order: Order) -> bool:
        if order.open or self.faults.retention_s is None:
            return False
        return time.monotonic() - account.changed_at(order.order_id) > self.faults.retention_s


def server_ms() -> int:
    """Return the server's wall clock, against which deadlines are held."""
    return time.time_ns() // 1_000_000


def _word(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise Refusal(2001, f"{name}: expected a text of 1 to 64 characters")
    return value


def _one_of(payload: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str | None = None) -> str:
    value = payload.get(name, default)
    if value not in choices:
        raise Refusal(2001, f"{name}: expected one of {', '.join(choices)}, found {value!r}")
    return value


def _number(payload: Mapping[str, Any], name: str, default: int | None = None) -> Decimal:
    value = payload.get(name, default)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise Refusal(2001, f"{name}: expected a number, found {value!r}")
    return number
