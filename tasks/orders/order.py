"""What an order is: the request that was decided, and everything learned about it since.

Quantities are `Decimal` in the base asset, prices in the quote asset. An order is a value: an event makes a new one
(`tasks.orders.lifecycle`). Its filled quantity is always the sum of its fills, never a number somebody reported.

They are structs of msgspec and no dataclasses, since a start makes more than a million of them.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from tasks.errors import InputError

ZERO = Decimal(0)


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """Return +1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    """How the price is chosen."""

    MARKET = "market"
    LIMIT = "limit"


class TimeInForce(StrEnum):
    """How long an order works."""

    GTC = "gtc"
    """Until cancelled."""
    IOC = "ioc"
    """What can be filled at once is, the rest is cancelled."""
    FOK = "fok"
    """All at once or nothing."""
    DAY = "day"
    """Until the session ends."""


class Status(StrEnum):
    """Where an order stands. What is known of its quantities is kept apart: see `Order.filled_quantity`."""

    INITIALIZED = "initialized"
    """Decided and in the journal; nobody else knows."""
    DENIED = "denied"
    """Refused by our own risk rules; never sent."""
    SUBMITTING = "submitting"
    """The intent is committed; bytes may be on their way."""
    IN_DOUBT = "in_doubt"
    """Sent, and the outcome is unknown. Counts as filled towards limits, and blocks new entries."""
    PENDING_NEW = "pending_new"
    """The broker has it; it does not work yet."""
    ACCEPTED = "accepted"
    """Working."""
    PARTIALLY_FILLED = "partially_filled"
    """Working, a part is filled."""
    FILLED = "filled"
    """Filled in whole."""
    CANCELED = "canceled"
    """Cancelled; a part may have been filled."""
    EXPIRED = "expired"
    """Ended by its time in force; a part may have been filled."""
    REJECTED = "rejected"
    """Refused by the broker, on definite evidence."""
    NOT_PLACED = "not_placed"
    """Proved never to have reached the market."""


#: No command can change these; fills, busts and snapshots still can.
TERMINAL = frozenset(
    {Status.DENIED, Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REJECTED, Status.NOT_PLACED}
)

#: Nobody can say yet what became of it: worst case, it fills in whole.
UNCERTAIN = frozenset({Status.SUBMITTING, Status.IN_DOUBT})

#: The six states of the article the platform grew from, for whoever reads it beside this.
ARTICLE_STATUS: dict[Status, str] = {
    Status.INITIALIZED: "pending",
    Status.DENIED: "rejected",
    Status.SUBMITTING: "submitted",
    Status.IN_DOUBT: "submitted",
    Status.PENDING_NEW: "submitted",
    Status.ACCEPTED: "submitted",
    Status.PARTIALLY_FILLED: "partially_filled",
    Status.FILLED: "filled",
    Status.CANCELED: "cancelled",
    Status.EXPIRED: "cancelled",
    Status.REJECTED: "rejected",
    Status.NOT_PLACED: "rejected",
}


class Pending(StrEnum):
    """A request about a working order that the broker has not answered yet; the status beneath stays what it was."""

    NONE = "none"
    CANCEL = "cancel"
    REPLACE = "replace"


class OrderRequest(msgspec.Struct, frozen=True):
    """What was decided, once and for all.

    Attributes:
        client_order_id: Ours, deterministic; see `tasks.orders.identity`.
        account: Whose money.
        symbol: In the broker's spelling.
        side: Which way.
        quantity: Base asset, above zero.
        order_type: How the price is chosen.
        limit_price: Quote asset; None for a market order.
        time_in_force: How long it works.
        reduce_only: It may only bring a position closer to zero.
        strategy: Who decided.
        signal_key: What it was decided on: the same key can never become two orders.
    """

    client_order_id: str
    account: str
    symbol: str
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    strategy: str = ""
    signal_key: str = ""

    def __post_init__(self) -> None:
        """Refuse what no broker could take.

        Raises:
            InputError: A quantity or price that is not a finite number above zero, or a price where none belongs.
        """
        if not (self.quantity.is_finite() and self.quantity > 0):
            raise InputError(f"order {self.client_order_id}: expected a quantity above 0, found {self.quantity}")
        wants_price = self.order_type is OrderType.LIMIT
        if wants_price != (self.limit_price is not None):
            raise InputError(
                f"order {self.client_order_id}: expected a limit price for limit orders alone, found "
                f"{self.order_type} with {self.limit_price}"
            )
        if self.limit_price is not None and not (self.limit_price.is_finite() and self.limit_price > 0):
            raise InputError(f"order {self.client_order_id}: expected a limit price above 0, found {self.limit_price}")


class Fill(msgspec.Struct, frozen=True):
    """One execution of ours.

    Attributes:
        trade_id: The broker's, unique within account and symbol; the key that a fill is never counted twice by.
        price: Quote asset.
        quantity: Base asset, above zero.
        fee: Quote asset; negative for a rebate.
        timestamp: When it happened, by the broker's clock.
        inferred: Made up from a snapshot because the broker has not told the trade yet; a real one takes its place.
        base_fee: What of the base asset the fee was taken in; left out where it was taken in another one. `fee` is then
            what that was worth.
        other_fees: Fees in third assets, by name: neither in `fee` nor in any profit. Left out where there are none.
    """

    trade_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    timestamp: datetime
    inferred: bool = False
    base_fee: Decimal | msgspec.UnsetType = msgspec.UNSET
    other_fees: tuple[tuple[str, Decimal], ...] | msgspec.UnsetType = msgspec.UNSET


class Order(msgspec.Struct, frozen=True):
    """A request and everything learned about it.

    Attributes:
        request: What was decided.
        status: Where it stands.
        pending: The request about it that is unanswered.
        fills: Every execution that counts, in the order learned; busted and replaced ones are gone.
        broker_order_ids: Every id the broker gave it; a replacement adds one.
        reason: Why it was denied, rejected or ended, in the words of whoever said so.
        flags: What is out of the ordinary: ``late_fill``, ``overfilled``, ``resurrected``, ``busted``,
            ``unexpected_fill``.
    """

    request: OrderRequest
    status: Status = Status.INITIALIZED
    pending: Pending = Pending.NONE
    fills: tuple[Fill, ...] = ()
    broker_order_ids: tuple[str, ...] = ()
    reason: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def filled_quantity(self) -> Decimal:
        """Return the sum of the fills."""
        return sum((fill.quantity for fill in self.fills), ZERO)

    @property
    def remaining_quantity(self) -> Decimal:
        """Return what may still fill: nothing for an order that has ended."""
        if self.status in TERMINAL:
            return ZERO
        return max(self.request.quantity - self.filled_quantity, ZERO)

    @property
    def average_price(self) -> Decimal | None:
        """Return the fills' average price weighted by quantity, None without a fill."""
        quantity = self.filled_quantity
        return sum((fill.price * fill.quantity for fill in self.fills), ZERO) / quantity if quantity else None

    @property
    def fees(self) -> Decimal:
        """Return the fees of all fills, in the quote asset."""
        return sum((fill.fee for fill in self.fills), ZERO)

    @property
    def is_terminal(self) -> bool:
        """Return whether no command can change the order any more."""
        return self.status in TERMINAL

    def flagged(self, *names: str) -> Order:
        """Return the order with flags added."""
        return replace(self, flags=self.flags | set(names))
