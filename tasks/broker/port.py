"""What a broker is to us: a few calls, a stream of reports, and an honest declaration of what it guarantees.

Every adapter translates its broker's words into these; the manager knows nothing else. Three rules hold for each:

* `submit` raises `DefiniteRejection` on positive evidence alone (a structured error of that one order, on the adapter's
  own list), `NotSentError` where not one byte can have left, and `OutcomeUnknownError` for everything else: timeouts,
  resets, 5xx, unreadable answers, 429 after the body was sent. Unknown is never rejection.
* nothing is ever retried inside an adapter's `submit`.
* `submit` is begun while the order's intent is on its way to the disk, and may prepare what it likes; before the first
  byte leaves it awaits `recorded()`, which returns once the intent is there, and raises where it never will be; or
  `NotSentError`, which goes on to the caller, where the order was cancelled while it waited for its turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from tasks.errors import KlinehouseError
from tasks.orders.guarantees import IdempotencyProfile
from tasks.orders.order import Fill, OrderRequest, Side, Status


class DefiniteRejection(KlinehouseError):  # noqa: N818  (it is an answer, not a fault)
    """The broker refused this one order, and said so in its own words. Never sent again under the same id."""


class NotSentError(KlinehouseError):
    """Not one byte can have left: no address, no connection, no place in the queue. Safe to decide anew."""


class OutcomeUnknownError(KlinehouseError):
    """The request may or may not have taken effect. Only the broker can tell: the order is in doubt."""


class ThrottledError(OutcomeUnknownError):
    """The broker wants fewer requests. It may have taken this one all the same (exchanges differ): in doubt."""


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker sees it.

    Attributes:
        client_order_id: Ours, empty for an order that is not.
        broker_order_id: Theirs.
        symbol: In the broker's spelling.
        side: Which way.
        quantity: In total.
        filled_quantity: So far; a snapshot, never added to anything.
        status: `PENDING_NEW`, `ACCEPTED`, `PARTIALLY_FILLED`, `FILLED`, `CANCELED`, `EXPIRED` or `REJECTED`.
        updated_at: When it last changed, by the broker's clock.
        reason: Why it ended, in the broker's words.
        average_price: Of what is filled, None where the broker does not say.
    """

    client_order_id: str
    broker_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    status: Status
    updated_at: datetime
    reason: str = ""
    average_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BrokerFill:
    """An execution as the broker reports it, with the order it belongs to."""

    client_order_id: str
    broker_order_id: str
    symbol: str
    side: Side
    fill: Fill


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream of reports is up; ask for everything now: nothing from here on is missed until it breaks."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream of reports broke; what happened meanwhile has to be asked for once it is `Connected` again."""

    reason: str


Report = BrokerOrder | BrokerFill | Connected | Disconnected


@dataclass(frozen=True, slots=True)
class Account:
    """What the broker says we own.

    Attributes:
        equity: Quote asset, everything at its market price.
        available: Quote asset free to trade with.
        positions: Signed quantity by symbol; zero positions are left out.
        cash: Quote asset in all, free or not; None where the broker does not tell.
    """

    equity: Decimal
    available: Decimal
    positions: dict[str, Decimal]
    cash: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """What a broker can do beyond the calls that each of them has.

    Attributes:
        immediate_limits: It takes limit orders that are filled at once or cancelled, so that market orders are sent as
            such, with a price they cannot run beyond.
        dead_man: It cancels every open order by itself where it does not hear of us in time.
    """

    immediate_limits: bool = False
    dead_man: bool = False


#: Returns once an order's intent is on disk.
Recorded = Callable[[], Awaitable[None]]


async def on_disk() -> None:
    """Return at once: the intent is on disk already."""


class Broker(Protocol):
    """A broker account.

    Whatever asks (all but `submit` and `cancel`) raises `ConfigurationError` where the broker refuses our key.

    Attributes:
        name: For logs, the journal and the page.
        profile: What it guarantees.
        is_live: Whether real money moves.
        features: What else it can do.
    """

    name: str
    profile: IdempotencyProfile
    is_live: bool
    features: Features

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order, once, and return it as the broker then sees it.

        Args:
            request: What to place; its client order id goes along.
            sent_at: The moment the deadline of the request counts from.
            recorded: Awaited before the first byte leaves.

        Raises:
            DefiniteRejection: Refused, on positive evidence.
            NotSentError: Nothing can have left.
            OutcomeUnknownError: Everything else.
        """
        ...

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Ask for an order's cancellation and return it as the broker then sees it.

        Raises:
            DefiniteRejection: The order is not open any more, or not known.
            NotSentError: Nothing can have left.
            OutcomeUnknownError: Everything else; asking again is safe.
        """
        ...

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order, None where the broker does not find it (which proves nothing by itself).

        Raises:
            TransientError: The broker could not be asked.
        """
        ...

    async def open_orders(self) -> list[BrokerOrder]:
        """Return every open order of the account, ours or not.

        Raises:
            TransientError: The broker could not be asked.
        """
        ...

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return every execution of the account from `since` on.

        Raises:
            TransientError: The broker could not be asked.
        """
        ...

    async def account(self) -> Account:
        """Return what the broker says we own.

        Raises:
            TransientError: The broker could not be asked.
        """
        ...

    def reports(self) -> AsyncIterator[Report]:
        """Yield orders and fills as they happen, after `Connected`; never ends by itself, see `Disconnected`."""
        ...

    async def cancel_all_after(self, timeout_s: float) -> None:
        """Have every open order cancelled in so long, unless this is called again before; 0 calls it off.

        Raises:
            TransientError: The broker could not be told, or has no such switch; see `Features.dead_man`.
        """
        ...

    async def close(self) -> None:
        """Release connections and files."""
        ...
