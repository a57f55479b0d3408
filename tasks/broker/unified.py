"""Orders and trades in ccxt's unified shape, read. ccxt itself is not needed for that.

Figures are floats there; their shortest spelling is what the exchange wrote, up to fifteen digits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import UNSET, UnsetType

from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.errors import ProtocolError
from tasks.orders.order import ZERO, Fill, OrderRequest, Side, Status

#: What reading an answer of another shape than expected raises.
NONSENSE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
_ENDED = {"canceled": Status.CANCELED, "expired": Status.EXPIRED, "rejected": Status.REJECTED}


def read_order(raw: Any, request: OrderRequest | None = None) -> BrokerOrder | None:
    """Read an order, None where it is none; what a terse exchange leaves out is taken from what was asked for.

    Raises:
        ProtocolError: A figure, side or moment that is none.
    """
    try:
        return _order(raw, request)
    except NONSENSE as error:
        raise ProtocolError(f"ccxt: an order of an unexpected shape ({type(error).__name__})") from None


def need_order(raw: Any) -> BrokerOrder:
    """Read an order.

    Raises:
        ProtocolError: It is none.
    """
    order = read_order(raw)
    if order is None:
        raise ProtocolError("ccxt: an order of an unexpected shape")
    return order


def shown_order(raw: Any, request: OrderRequest | None = None) -> BrokerOrder | None:
    """Return the order that an answer shows; None where it makes no sense, which says nothing of what was done."""
    try:
        return read_order(raw, request)
    except ProtocolError:
        return None


def _order(raw: Any, request: OrderRequest | None) -> BrokerOrder | None:
    if not raw or not raw.get("id"):
        return None
    asked = request.client_order_id if request else ""
    symbol, side = raw.get("symbol") or (request and request.symbol), raw.get("side") or (request and request.side)
    quantity = exact(raw.get("amount")) or (request.quantity if request else ZERO)
    if not symbol or not side or not quantity or (asked and raw.get("clientOrderId") not in (None, asked)):
        return None
    if raw.get("status") == "closed" and raw.get("filled") is None:
        return None  # it ended, and with how much is not said: that is no order without a fill
    filled = exact(raw.get("filled"))
    stamp = raw.get("lastUpdateTimestamp") or raw.get("lastTradeTimestamp") or raw.get("timestamp") or 0
    status = _status(raw.get("status"), filled, quantity)
    return BrokerOrder(
        client_order_id=str(raw.get("clientOrderId") or asked),
        broker_order_id=str(raw["id"]),
        symbol=str(symbol),
        side=Side(side),
        quantity=quantity,
        filled_quantity=filled,
        status=status,
        updated_at=_moment(stamp),
        reason="" if status not in _ENDED.values() else f"the exchange says {raw.get('status')}",
        average_price=exact(raw.get("average")) or None,
    )


def _status(word: str | None, filled: Decimal, quantity: Decimal) -> Status:
    """Return where an order stands; one with an id and no word about it is there, and that is all we know."""
    if word in _ENDED:
        return _ENDED[word]
    if filled >= quantity:
        return Status.FILLED
    if word == "closed":
        return Status.EXPIRED
    if filled > 0:
        return Status.PARTIALLY_FILLED
    return Status.ACCEPTED if word == "open" else Status.PENDING_NEW


def read_fill(raw: Any, client_order_id: str) -> BrokerFill:
    """Read a trade of ours.

    Raises:
        ProtocolError: It has no id, so that it could not be counted once, or a figure, side or moment is none.
    """
    if not raw.get("id"):
        raise ProtocolError("ccxt: expected a trade with an id, found none: fills could not be counted once")
    try:
        return _fill(raw, client_order_id)
    except NONSENSE as error:
        raise ProtocolError(f"ccxt: a trade of an unexpected shape ({type(error).__name__})") from None


def _fill(raw: Any, client_order_id: str) -> BrokerFill:
    price, quantity = exact(raw["price"]), exact(raw["amount"])
    return BrokerFill(
        client_order_id=client_order_id,
        broker_order_id=str(raw["order"]),
        symbol=raw["symbol"],
        side=Side(raw["side"]),
        fill=Fill(
            trade_id=str(raw["id"]),
            price=price,
            quantity=quantity,
            fee=quote_fee(raw, price),
            timestamp=_moment(raw["timestamp"]),
            base_fee=base_fee(raw),
            other_fees=other_fees(raw),
        ),
    )


def quote_fee(raw: Any, price: Decimal) -> Decimal:
    """Return a trade's fee in the quote asset; what was taken in a third asset is not in it, see `other_fees`."""
    base, quote = _assets(raw)
    return sum((cost * price if asset == base else cost for asset, cost in _fees(raw) if asset in (base, quote)), ZERO)


def base_fee(raw: Any) -> Decimal | UnsetType:
    """Return what a trade's fee took of the base asset, so that less is held than was bought; unset for nothing."""
    base, _ = _assets(raw)
    return sum((cost for asset, cost in _fees(raw) if asset == base), ZERO) or UNSET


def other_fees(raw: Any) -> tuple[tuple[str, Decimal], ...] | UnsetType:
    """Return a trade's fees in assets that cannot be valued here, such as an exchange's own token; unset for none."""
    known = _assets(raw)
    return tuple((str(asset), cost) for asset, cost in _fees(raw) if asset not in known) or UNSET


def _fees(raw: Any) -> list[tuple[Any, Decimal]]:
    """Return each fee's asset and cost; ccxt names several in ``fees``, and a single one in ``fee`` as well."""
    named = raw.get("fees") or [raw.get("fee") or {}]
    return [(one.get("currency"), cost) for one in named if (cost := exact(one.get("cost")))]


def _assets(raw: Any) -> tuple[str, str]:
    base, quote = raw["symbol"].split(":")[0].split("/")
    return base, quote


def exact(value: Any) -> Decimal:
    """Return a figure, zero where there is none.

    Raises:
        ValueError: It is not a finite one.
    """
    figure = ZERO if value is None else Decimal(str(value))
    if not figure.is_finite():
        raise ValueError(f"expected a finite figure, found {value}")
    return figure


def _moment(milliseconds: Any) -> datetime:
    # Not `fromtimestamp`: the platform answers some numbers with an OSError, which elsewhere means that a wire broke.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
