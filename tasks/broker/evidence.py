"""What an answer of the local market proves about an order, as a table. Pure.

Only what stands in the table refuses: HTTP status and code together, both as published. Everything else, whatever it
looks like, proves nothing. 6004 (expired on its way) is not in it on purpose: it speaks of that request alone, and an
earlier one under the same id may be alive; the order is in doubt until it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import aiohttp
import msgspec

from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.orders.order import Fill, Side, Status


class Verb(StrEnum):
    """What was asked for."""

    PLACE = "place"
    CANCEL = "cancel"


class Proof(StrEnum):
    """What an answer proves."""

    DONE = "done"
    """It took effect, and here is the order."""
    REFUSED = "refused"
    """It never will."""
    UNKNOWN = "unknown"
    """Nothing."""


#: HTTP status and code of every answer that refuses for sure.
REFUSALS: dict[Verb, frozenset[tuple[int, int]]] = {
    Verb.PLACE: frozenset(
        {
            (400, 2001),  # a field is missing or malformed
            (404, 2002),  # no such symbol
            (400, 6003),  # rejected: steps, cash, the venue's word
            (401, 1001),  # keys are checked before anything else
            (401, 1002),
            (403, 1003),
            (403, 1004),
        }
    ),
    Verb.CANCEL: frozenset({(404, 6001), (409, 6005)}),  # not known, not open any more
}

#: The id is in use: the order that uses it comes along, and is ours.
_KNOWN = (409, 6002)
_DONE = (200, 0)

#: Raised before a connection stands, so that not one byte of the request can have left.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)

_STATUSES = {
    "new": Status.ACCEPTED,
    "partially_filled": Status.PARTIALLY_FILLED,
    "filled": Status.FILLED,
    "canceled": Status.CANCELED,
    "expired": Status.EXPIRED,
    "rejected": Status.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as far as it can be read.

    Attributes:
        status: HTTP.
        code: The envelope's, None where there is no envelope.
        message: The envelope's words.
        data: What it carries.
    """

    status: int
    code: int | None
    message: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer proves, with the order where it shows one and the words otherwise."""

    proof: Proof
    order: BrokerOrder | None = None
    words: str = ""


def read_answer(status: int, body: bytes) -> Answer:
    """Read an envelope; one that is not whole has no code."""
    try:
        envelope = msgspec.json.decode(body)  # stricter than `json`: no lone surrogates, which no journal takes
    except (ValueError, RecursionError):
        return Answer(status, None, f"HTTP {status} without a readable answer")
    code = envelope.get("code") if isinstance(envelope, dict) else None
    if not isinstance(code, int) or isinstance(code, bool):
        return Answer(status, None, f"HTTP {status} with an answer of another shape")
    return Answer(status, code, f"{code} {envelope.get('message', '')}"[:200], envelope.get("data"))


def judge(verb: Verb, client_order_id: str, answer: Answer) -> Evidence:
    """Return what an answer proves about the order of `client_order_id`."""
    pair = (answer.status, answer.code)
    if pair in REFUSALS[verb]:
        return Evidence(Proof.REFUSED, words=answer.message)
    if pair == _DONE or (verb is Verb.PLACE and pair == _KNOWN):
        order = read_order(answer.data)
        if order is not None and order.client_order_id == client_order_id:
            return Evidence(Proof.DONE, order)
        return Evidence(Proof.UNKNOWN, words=f"HTTP {answer.status}: expected order {client_order_id}, found another")
    return Evidence(Proof.UNKNOWN, words=answer.message)


def never_left(error: BaseException) -> bool:
    """Return whether an error of the transport proves that nothing was sent."""
    return isinstance(error, _BEFORE_SENDING)


def read_order(data: Any) -> BrokerOrder | None:
    """Read an order, None where it is none."""
    try:
        average = data["average_price"]
        return BrokerOrder(
            client_order_id=str(data["client_order_id"]),
            broker_order_id=str(data["order_id"]),
            symbol=str(data["symbol"]),
            side=Side(data["side"]),
            quantity=read_figure(data["quantity"]),
            filled_quantity=read_figure(data["filled_quantity"]),
            status=_STATUSES[data["status"]],
            updated_at=_moment(data["updated_at"]),
            reason=""
            if data["status"] in ("new", "partially_filled", "filled")
            else f"the broker says {data['status']}",
            average_price=None if average is None else read_figure(average),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
        return None


def read_fill(data: Any) -> BrokerFill | None:
    """Read an execution, None where it is none."""
    try:
        return BrokerFill(
            client_order_id=str(data["client_order_id"]),
            broker_order_id=str(data["order_id"]),
            symbol=str(data["symbol"]),
            side=Side(data["side"]),
            fill=Fill(
                trade_id=str(data["trade_id"]),
                price=read_figure(data["price"]),
                quantity=read_figure(data["quantity"]),
                fee=read_figure(data["fee"]),
                timestamp=_moment(data["timestamp"]),
            ),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
        return None


def read_figure(text: Any) -> Decimal:
    """Read a figure, which is a text.

    Raises:
        ValueError: It is none, or not finite.
    """
    value = Decimal(text) if isinstance(text, str) else Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"expected a figure as text, found {text!r}")
    return value


def _moment(milliseconds: Any) -> datetime:
    if not isinstance(milliseconds, int):
        raise TypeError("expected milliseconds")
    # Not `fromtimestamp`: the platform answers some numbers with an OSError, which elsewhere means that a wire broke.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
