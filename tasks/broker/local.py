"""The local market's own order entry, as a broker: REST for questions and orders, the private stream for reports.

The key travels in a header, and aiohttp keeps headers in its errors; so no error of aiohttp leaves this file, only its
type's name. Orders are sent once: aiohttp repeats no POST, and neither do we. What an answer proves is decided in
`tasks.broker.evidence`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
from pydantic import SecretStr

from tasks.broker.evidence import (
    Answer,
    Proof,
    Verb,
    judge,
    never_left,
    read_answer,
    read_figure,
    read_fill,
    read_order,
)
from tasks.broker.feed import ReportFeed
from tasks.broker.port import (
    Account,
    BrokerFill,
    BrokerOrder,
    DefiniteRejection,
    Features,
    NotSentError,
    OutcomeUnknownError,
    Recorded,
    Report,
    ThrottledError,
    on_disk,
)
from tasks.broker.private import PrivateStream
from tasks.broker.prompt import HeldBody, PromptRequest
from tasks.errors import ConfigurationError, ProtocolError, RateLimitedError, TransientError
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import ZERO, OrderRequest, TimeInForce

#: Codes about the key itself.
_KEY_CODES = (1001, 1002, 1003, 1004)
_NOT_FOUND = (404, 6001)
_IN_FORCE = {TimeInForce.GTC: "gtc", TimeInForce.IOC: "ioc", TimeInForce.FOK: "fok"}


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Where the market is and what it is configured to guarantee.

    Attributes:
        url: REST address.
        key: Never printed.
        grade: A where ids are unique for ever, B where among open orders only.
        deadline_s: After it a request cannot take effect any more; at most 60.
        lag_s: How long a query may miss an order.
        timeout_s: How long an answer is waited for.
    """

    url: str
    key: SecretStr
    grade: IdempotencyClass = IdempotencyClass.A
    deadline_s: float = 5.0
    lag_s: float = 0.5
    timeout_s: float = 10.0


class LocalBroker:
    """An account of the local market.

    Args:
        settings: Where and how.
        clock: Wall clock, UTC; deadlines count by it.
    """

    name = "local"
    is_live = False
    features = Features(immediate_limits=True, dead_man=True)

    def __init__(self, settings: LocalSettings, *, clock: Callable[[], datetime]) -> None:
        self.profile = IdempotencyProfile(
            settings.grade, deadline_s=settings.deadline_s, lag_s=settings.lag_s, max_id_length=64
        )
        self._settings = settings
        self._clock = clock
        self._feed = ReportFeed()
        self._stream = PrivateStream(settings.url, settings.key, self._feed)
        self._http: aiohttp.ClientSession | None = None

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order, once. See `Broker.submit`."""
        identifier, window = request.client_order_id, timedelta(seconds=self._settings.deadline_s)
        if request.time_in_force not in _IN_FORCE:
            raise NotSentError(f"{identifier}: expected gtc, ioc or fok, found {request.time_in_force}: not sent")
        if self._clock() > sent_at + window:
            raise NotSentError(f"{identifier}: its deadline of {self._settings.deadline_s} s had passed: not sent")
        body = HeldBody(_payload(request, sent_at, window), recorded)
        return await self._act(Verb.PLACE, identifier, "POST", body=body)

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Cancel an order. See `Broker.cancel`."""
        return await self._act(Verb.CANCEL, client_order_id, "DELETE", query={"client_order_id": client_order_id})

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order. See `Broker.query`."""
        answer = await self._ask("/v1/orders", client_order_id=client_order_id)
        if (answer.status, answer.code) == _NOT_FOUND:
            return None
        order = _need(read_order(answer.data))
        if order.client_order_id != client_order_id:
            raise ProtocolError(f"local market: expected order {client_order_id}, found {order.client_order_id}")
        return order

    async def open_orders(self) -> list[BrokerOrder]:
        """Return every open order. See `Broker.open_orders`."""
        return [_need(read_order(one)) for one in _listed(await self._ask("/v1/orders/open"))]

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return every execution from `since` on. See `Broker.fills`."""
        answer = await self._ask("/v1/fills", start_time=str(_milliseconds(since)))
        return [_need(read_fill(one)) for one in _listed(answer)]

    async def account(self) -> Account:
        """Return cash and positions, these at the last trades' prices. See `Broker.account`."""
        holdings = (await self._ask("/v1/account")).data
        try:
            (balance,) = holdings["balances"]
            total, available = read_figure(balance["total"]), read_figure(balance["available"])
            positions = {one["symbol"]: read_figure(one["quantity"]) for one in holdings["positions"]}
            prices = await self._prices(list(positions))
            worth = sum((quantity * prices[symbol] for symbol, quantity in positions.items()), ZERO)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ProtocolError(f"local market: account of an unexpected shape ({type(error).__name__})") from None
        return Account(total + worth, available, positions, total)

    async def cancel_all_after(self, timeout_s: float) -> None:
        """Have everything cancelled in so long. See `Broker.cancel_all_after`."""
        await self._tell("/v1/orders/cancel-after", {"timeout_ms": round(timeout_s * 1000)})

    def reports(self) -> AsyncIterator[Report]:
        """Yield what happens, from the moment the stream is up. See `Broker.reports`."""
        self._stream.start()
        return self._feed.subscribe()

    async def close(self) -> None:
        """Close stream and connections."""
        await self._stream.close()
        if self._http is not None:
            await self._http.close()

    async def _act(
        self,
        verb: Verb,
        identifier: str,
        method: str,
        *,
        body: HeldBody | None = None,
        query: Mapping[str, str] | None = None,
    ) -> BrokerOrder:
        try:
            answer = await self._request(method, "/v1/orders", data=body, params=query)
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, NotSentError):  # out of `recorded`, which the body waited for
                raise error.__cause__ from None
            kind = NotSentError if never_left(error) else OutcomeUnknownError
            raise kind(f"{verb} {identifier}: {type(error).__name__}") from None
        evidence = judge(verb, identifier, answer)
        if evidence.proof is Proof.REFUSED:
            raise DefiniteRejection(f"{verb} {identifier}: {evidence.words}")
        if evidence.proof is Proof.UNKNOWN or evidence.order is None:
            kind = ThrottledError if answer.status == 429 else OutcomeUnknownError
            raise kind(f"{verb} {identifier}: {evidence.words}")
        return evidence.order

    async def _ask(self, path: str, **query: str) -> Answer:
        """Return the answer to a question; raises `TransientError` where none came."""
        return await self._answer("GET", path, query=query)

    async def _tell(self, path: str, body: object) -> Answer:
        """Return the answer to what may be told twice; raises `TransientError` where none came."""
        return await self._answer("POST", path, body=body)

    async def _answer(
        self, method: str, path: str, *, body: object = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        try:
            answer = await self._request(method, path, json=body, params=query)
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"local market {path}: {type(error).__name__}") from None
        if answer.code in _KEY_CODES:
            raise ConfigurationError(f"local market {path}: {answer.message}: check the key")
        if answer.status == 429:
            raise RateLimitedError(f"local market {path}: {answer.message}")
        if answer.code != 0 and (answer.status, answer.code) != _NOT_FOUND:
            raise TransientError(f"local market {path}: {answer.message}")
        return answer

    async def _request(self, method: str, path: str, **what: Any) -> Answer:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                self._settings.url,
                headers={"X-API-Key": self._settings.key.get_secret_value()},
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
                request_class=PromptRequest,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        async with self._http.request(method, path, allow_redirects=False, **what) as reply:
            return read_answer(reply.status, await reply.read())

    async def _prices(self, symbols: list[str]) -> dict[str, Decimal]:
        if not symbols:
            return {}
        answer = await self._ask("/v1/market/ticker", symbols=",".join(symbols))
        return {one["symbol"]: read_figure(one["last_price"]) for one in _listed(answer)}


def _payload(request: OrderRequest, sent_at: datetime, window: timedelta) -> dict[str, Any]:
    fields = {
        "client_order_id": request.client_order_id,
        "symbol": request.symbol,
        "side": request.side.value,
        "order_type": request.order_type.value,
        "quantity": f"{request.quantity:f}",
        "time_in_force": _IN_FORCE[request.time_in_force],
        "timestamp": _milliseconds(sent_at),
        "recv_window": round(window.total_seconds() * 1000),
    }
    return fields if request.limit_price is None else fields | {"price": f"{request.limit_price:f}"}


def _listed(answer: Answer) -> list[Any]:
    """Return what a list holds, or say that the market broke its protocol."""
    if not isinstance(answer.data, list):
        raise ProtocolError(f"local market: expected a list, found {type(answer.data).__name__}")
    return answer.data


def _need(value: Any) -> Any:
    """Return what was read, or say that the market broke its protocol."""
    if value is None:
        raise ProtocolError("local market: an order or fill of an unexpected shape")
    return value


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
