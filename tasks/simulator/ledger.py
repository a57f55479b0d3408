"""What an account has: orders with their history, fills, cash and positions. Everything is `Decimal`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tasks.simulator.instruments import Instrument

OPEN = ("new", "partially_filled")
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stood from one moment on.

    Attributes:
        order_id: The venue's.
        client_order_id: The client's.
        item: What is traded.
        side: ``buy`` or ``sell``.
        kind: ``limit`` or ``market``.
        time_in_force: ``gtc``, ``ioc`` or ``fok``.
        quantity: Asked.
        price: The limit; None for a market order.
        status: ``new``, ``partially_filled``, ``filled``, ``canceled``, ``expired`` or ``rejected``.
        filled: Executed so far.
        cost: Sum of price times quantity of its fills.
        created_ms: When the engine took it, market time.
        updated_ms: When it last changed, market time.
    """

    order_id: str
    client_order_id: str
    item: Instrument
    side: str
    kind: str
    time_in_force: str
    quantity: Decimal
    price: Decimal | None
    status: str
    filled: Decimal
    cost: Decimal
    created_ms: int
    updated_ms: int

    @property
    def left(self) -> Decimal:
        """What is not executed yet."""
        return self.quantity - self.filled

    @property
    def open(self) -> bool:
        """Whether it can still be filled."""
        return self.status in OPEN

    def describe(self) -> dict[str, Any]:
        """Return the order as JSON, figures as strings."""
        average = self.cost / self.filled if self.filled else None
        return {
            "order_id": self.order_id,
            "client_order_id": self.client_order_id,
            "symbol": self.item.symbol,
            "side": self.side,
            "order_type": self.kind,
            "time_in_force": self.time_in_force,
            "quantity": plain(self.quantity),
            "price": plain(self.price) if self.price is not None else None,
            "status": self.status,
            "filled_quantity": plain(self.filled),
            "average_price": plain(average.quantize(Decimal("1e-12"))) if average is not None else None,
            "created_at": self.created_ms,
            "updated_at": self.updated_ms,
        }


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of an order.

    Attributes:
        trade_id: Unique in the venue, for ever.
        order: The order as it stood after this fill.
        price: Paid.
        quantity: Executed.
        fee: In the instrument's currency.
        maker: Whether the order was resting.
        timestamp_ms: Market time.
    """

    trade_id: str
    order: Order
    price: Decimal
    quantity: Decimal
    fee: Decimal
    maker: bool
    timestamp_ms: int

    def describe(self) -> dict[str, Any]:
        """Return the fill as JSON, figures as strings."""
        order = self.order
        return {
            "trade_id": self.trade_id,
            "order_id": order.order_id,
            "client_order_id": order.client_order_id,
            "symbol": order.item.symbol,
            "side": order.side,
            "price": plain(self.price),
            "quantity": plain(self.quantity),
            "fee": plain(self.fee),
            "fee_currency": order.item.currency,
            "liquidity": "maker" if self.maker else "taker",
            "timestamp": self.timestamp_ms,
        }


@dataclass(slots=True)
class Account:
    """One key's orders and money.

    Attributes:
        cash: In the currency of everything it trades; may fall below zero only by fees.
        positions: Signed quantity by instrument, and its cost at the average price.
        fills: In the order of execution.
    """

    cash: Decimal
    positions: dict[Instrument, tuple[Decimal, Decimal]] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    _versions: dict[str, list[tuple[float, Order]]] = field(default_factory=dict)
    _by_client_id: dict[str, list[str]] = field(default_factory=dict)
    _open: dict[str, Order] = field(default_factory=dict)

    def record(self, order: Order, now_s: float) -> None:
        """Note that an order stands like this from `now_s` (monotonic) on."""
        versions = self._versions.setdefault(order.order_id, [])
        if not versions:
            self._by_client_id.setdefault(order.client_order_id, []).append(order.order_id)
        versions.append((now_s, order))
        if order.open:
            self._open[order.order_id] = order
        else:
            self._open.pop(order.order_id, None)

    def open_orders(self) -> list[Order]:
        """Return the orders that can still be filled, as they stand now."""
        return list(self._open.values())

    def book(self, fill: Fill) -> None:
        """Move cash and position by a fill."""
        self.fills.append(fill)
        item, sign = fill.order.item, 1 if fill.order.side == "buy" else -1
        held, cost = self.positions.get(item, (ZERO, ZERO))
        change = sign * fill.quantity
        if held * change >= 0:
            cost += change * fill.price
        elif abs(change) <= abs(held):
            cost += cost / held * change
        else:
            cost = (held + change) * fill.price
        self.positions[item] = (held + change, cost)
        self.cash -= change * fill.price + fill.fee

    def orders(self, *, as_of_s: float | None = None) -> list[Order]:
        """Return every order as it stood at `as_of_s`, oldest first; None for now."""
        return [order for order in (self._seen(key, as_of_s) for key in self._versions) if order is not None]

    def order(self, order_id: str, *, as_of_s: float | None = None) -> Order | None:
        """Return an order by the venue's id as it stood at `as_of_s`; None if it was not there."""
        return self._seen(order_id, as_of_s)

    def by_client_id(self, client_order_id: str, *, as_of_s: float | None = None) -> list[Order]:
        """Return the orders of a client id, oldest first."""
        keys = self._by_client_id.get(client_order_id, [])
        return [order for order in (self._seen(key, as_of_s) for key in keys) if order is not None]

    def changed_at(self, order_id: str) -> float:
        """Return when an order last changed, monotonic seconds."""
        return self._versions[order_id][-1][0]

    def describe_positions(self) -> list[dict[str, str]]:
        """Return the positions that are not flat as JSON."""
        return [
            {"symbol": item.symbol, "quantity": plain(held), "average_price": plain(cost / held)}
            for item, (held, cost) in self.positions.items()
            if held
        ]

    def _seen(self, order_id: str, as_of_s: float | None) -> Order | None:
        for since, order in reversed(self._versions.get(order_id, [])):
            if as_of_s is None or since <= as_of_s:
                return order
        return None


def changed(order: Order, **changes: object) -> Order:
    """Return the order with some fields changed."""
    return replace(order, **changes)  # type: ignore[arg-type]


def plain(value: Decimal) -> str:
    """Write a decimal without exponent and trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
