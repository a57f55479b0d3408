"""Any exchange of ccxt as a broker, through the unified API with client order ids. The only file here that knows ccxt.

Its sandbox unless live trading is asked for, and then only where a resend cannot become a second order, or by the
exchange's name. ccxt's own retries are off, and ccxt's errors hold addresses and signatures, so that none leaves this
file: only its class, the exchange's code and words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import ccxt.async_support as ccxt

from tasks.broker.evidence import never_left
from tasks.broker.exchanges import REFUSING_CANCEL, CcxtSettings, deadline_fields, known, read_objection, refuses
from tasks.broker.feed import ReportFeed
from tasks.broker.metered import ENTRY_PATIENCE_S, Gate, Urgency
from tasks.broker.polling import Poller
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
from tasks.broker.rights import QUESTIONS, check_rights, read_rights
from tasks.broker.unified import NONSENSE, exact, need_order, read_fill, shown_order
from tasks.errors import ConfigurationError, ProtocolError, RateLimitedError, TransientError
from tasks.orders.guarantees import IdempotencyProfile
from tasks.orders.order import ZERO, OrderRequest

_T = TypeVar("_T")
#: Polling begins its turns so far apart that it takes no more of what the exchange allows.
_POLLING_SHARE = 1 / 3
#: A list of fewer trades is whole; longer ones may be cut, and are asked for on from their newest trade, so often.
_WHOLE, _PAGES = 50, 20


def open_exchange(settings: CcxtSettings) -> Any:
    """Return ccxt's client of an exchange, its retries off.

    Raises:
        ConfigurationError: No such exchange, it has no sandbox, live trading there is not safe enough, or its
            passphrase is missing.
    """
    name = settings.exchange
    make = getattr(ccxt, name, None) if name in ccxt.exchanges else None
    if make is None:
        raise ConfigurationError(f"exchange: expected one of ccxt's {len(ccxt.exchanges)} names, found {name!r}")
    grade = known(name).profile.grade
    if not settings.sandbox and not known(name).profile.may_resend and settings.allow_non_idempotent != name:
        raise ConfigurationError(
            f"{name} is class {grade.name}: an order in doubt there is never sent again and may need a person. "
            f"Expected allow_non_idempotent={name!r} to trade live all the same"
        )
    exchange = make(
        {
            "apiKey": settings.key.get_secret_value(),
            "secret": settings.secret.get_secret_value(),
            "timeout": round(settings.timeout_s * 1000),
            "enableRateLimit": True,
            "options": {"maxRetriesOnFailure": 0, "warnOnFetchOpenOrdersWithoutSymbol": False},
        }
        | ({} if settings.passphrase is None else {"password": settings.passphrase.get_secret_value()})
    )
    if exchange.requiredCredentials.get("password") and settings.passphrase is None:
        kind = "SANDBOX" if settings.sandbox else "TRADE"
        raise ConfigurationError(
            f"{name} signs with a passphrase besides key and secret: expected KLINEHOUSE_{kind}_PASSPHRASE, found none"
        )
    if exchange.precisionMode != ccxt.TICK_SIZE:
        raise ConfigurationError(
            f"{name} counts digits where others name steps of quantities and prices: an order cannot be rounded to "
            "what it takes; choose another exchange"
        )
    if settings.sandbox:
        if not exchange.urls.get("test"):
            raise ConfigurationError(f"{name} has no sandbox: trade on paper first, or choose another exchange")
        exchange.set_sandbox_mode(True)
    return exchange


class CcxtBroker:
    """An account of an exchange.

    Args:
        settings: Which.
        clock: Wall clock, UTC.
        exchange: ccxt's client, as `open_exchange` makes it.
        gate: Its rate limit: every request takes a slot, those of the polling too. None where nobody counts.
    """

    def __init__(
        self, settings: CcxtSettings, *, clock: Callable[[], datetime], exchange: Any = None, gate: Gate | None = None
    ) -> None:
        self.name = f"ccxt:{settings.exchange}"
        self.is_live = not settings.sandbox
        self._settings = settings
        self._known = known(settings.exchange)
        self.profile: IdempotencyProfile = self._known.profile
        self._exchange = open_exchange(settings) if exchange is None else exchange
        in_force = (getattr(self._exchange, "features", None) or {}).get("spot") or {}
        immediate = ((in_force.get("createOrder") or {}).get("timeInForce") or {}).get("IOC", False)
        self.features = Features(immediate_limits=bool(immediate), dead_man=self._known.has_dead_man)
        self._secrets = settings.secrets
        self._clock = clock
        self._feed = ReportFeed()
        self._gate, a_turn = gate, 2 * len(settings.symbols)
        slowly_s = gate.pace_s(a_turn, _POLLING_SHARE) if gate is not None else 0.0
        self._poller = Poller(self, self._feed, clock=clock, poll_s=max(settings.poll_s, slowly_s))

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order, once. See `Broker.submit`."""
        await self._check_sendable(request)
        urgency = Urgency.RESOLVE if request.reduce_only else Urgency.ENTRY
        try:
            async with self._slot(urgency, f"submit {request.client_order_id}", patience_s=ENTRY_PATIENCE_S):
                await recorded()
                return await self._place(request, sent_at)
        except _IdInUseError as error:  # its slot is free again: a question that waits for one must not hold another
            with suppress(TransientError):
                found = await self.query(request.client_order_id, request.symbol)
                if found is not None:
                    return found
            raise OutcomeUnknownError(str(error)) from None

    async def _place(self, request: OrderRequest, sent_at: datetime) -> BrokerOrder:
        identifier, deadline = request.client_order_id, self.profile.deadline_s
        if deadline is not None and (self._clock() - sent_at).total_seconds() > deadline:
            raise NotSentError(f"{identifier}: its deadline of {deadline} s had passed: not sent")
        fields: dict[str, Any] = {"clientOrderId": identifier, "maxRetriesOnFailure": 0}
        if request.limit_price is not None or request.time_in_force.value in ("ioc", "fok"):
            fields["timeInForce"] = request.time_in_force.value.upper()
        if request.limit_price is None:
            fields.pop("timeInForce", None)  # a market order is immediate everywhere, and refused with one on Binance
        if request.reduce_only:
            fields["reduceOnly"] = True
        price = None if request.limit_price is None else float(request.limit_price)
        try:
            placed = await self._exchange.create_order(
                request.symbol,
                request.order_type.value,
                request.side.value,
                float(request.quantity),
                price,
                fields | deadline_fields(self._known, sent_at),
            )
        except ccxt.BaseError as error:
            raise self._refused(request, error) from None
        order = shown_order(placed, request)
        if order is None:
            raise OutcomeUnknownError(f"submit {identifier}: the answer shows no order")
        self._poller.watch(order)
        return order

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Cancel an order. See `Broker.cancel`."""
        found = None if self._known.lookup else await self._for_cancel(client_order_id, symbol)
        async with self._slot(Urgency.CANCEL, f"cancel {client_order_id}"):
            return await self._cancel(client_order_id, symbol, found)

    async def _cancel(self, client_order_id: str, symbol: str, found: BrokerOrder | None) -> BrokerOrder:
        fields = {self._known.lookup: client_order_id} if self._known.lookup else {}
        try:
            ended = await self._exchange.cancel_order(found.broker_order_id if found else None, symbol, fields)
        except ccxt.BaseError as error:
            said = read_objection(error, self._secrets)
            if said.kind in REFUSING_CANCEL:
                raise DefiniteRejection(f"cancel {client_order_id}: {said}") from None
            kind = NotSentError if _never_left(error) else _unknown(error)
            raise kind(f"cancel {client_order_id}: {said}") from None
        order = shown_order(ended) or found
        if order is None:
            raise OutcomeUnknownError(f"cancel {client_order_id}: the answer shows no order")
        return replace(order, client_order_id=client_order_id)  # Binance gives the cancel an id of its own

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order. See `Broker.query`."""
        if not self._known.lookup:
            return await self._search(client_order_id, symbol)
        fields = {self._known.lookup: client_order_id}
        async with self._slot(Urgency.RESOLVE, f"query {client_order_id}"):
            try:
                with self._reading("order"):
                    found = await self._exchange.fetch_order(None, symbol, fields)
            except ccxt.OrderNotFound:
                return None
            except ccxt.BaseError as error:
                raise self._question_failed("order", error) from None
        order = need_order(found)
        if order.client_order_id not in ("", client_order_id):
            raise ProtocolError(f"{self.name}: expected order {client_order_id}, found {order.client_order_id}")
        return replace(order, client_order_id=client_order_id)

    async def open_orders(self) -> list[BrokerOrder]:
        """Return every open order of the settings' symbols. See `Broker.open_orders`."""
        asked = self._exchange.fetch_open_orders
        found = [await self._ask("open orders", partial(asked, one)) for one in self._settings.symbols]
        with self._reading("open orders"):
            return [need_order(order) for orders in found for order in orders]

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return every execution of the settings' symbols from `since` on. See `Broker.fills`."""
        start, told = int(since.timestamp() * 1000), []
        for symbol in self._settings.symbols:
            with self._reading("trades"):
                trades = await self._trades(symbol, start)
                names = [await self._client_id(str(trade["order"]), symbol) for trade in trades]
                told += map(read_fill, trades, names)
        return sorted(told, key=lambda one: one.fill.timestamp)

    async def account(self) -> Account:
        """Return what is held of the settings' symbols, at the middle of their books. See `Broker.account`."""
        balance = await self._ask("balance", self._exchange.fetch_balance)
        quote = self._settings.symbols[0].split("/")[1].split(":")[0]
        with self._reading("account"):
            held = {symbol: _total(balance, symbol.split("/")[0]) for symbol in self._settings.symbols}
            positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
            total, free = _total(balance, quote), exact(balance.get(quote, {}).get("free"))
            worth = [quantity * await self._middle(symbol) for symbol, quantity in positions.items()]
        return Account(sum(worth, total), free, positions, total)

    async def _middle(self, symbol: str) -> Decimal:
        book = await self._ask("book", partial(self._exchange.fetch_order_book, symbol, 5))
        with self._reading("book"):
            best = [exact(levels[0][0]) for levels in (book["bids"], book["asks"]) if levels]
        if not best or min(best) <= 0:
            raise TransientError(f"{self.name}: {symbol} has no price in its book: its position cannot be valued")
        return sum(best, ZERO) / len(best)

    async def check_key(self) -> bool:
        """Refuse a key that may withdraw or may not trade; return whether the exchange told. A sandbox is not asked.

        Raises:
            ConfigurationError: The key may do what it must not, or not what it must.
            TransientError: The exchange did not answer.
            ProtocolError: It answered something else.
        """
        name = self._settings.exchange
        if not self.is_live or name not in QUESTIONS:
            return False
        answer = await self._ask("rights of the key", getattr(self._exchange, QUESTIONS[name].method))
        check_rights(name, read_rights(name, answer))
        return True

    async def cancel_all_after(self, timeout_s: float) -> None:
        """Have everything cancelled in so long. See `Broker.cancel_all_after`."""
        if not self.features.dead_man:
            raise TransientError(f"{self.name}: no such switch: orders of a dead process stay open")
        call = partial(self._exchange.cancel_all_orders_after, round(timeout_s * 1000))
        await self._ask("dead man's switch", call, Urgency.RESOLVE)

    def reports(self) -> AsyncIterator[Report]:
        """Yield what happens, found by asking at intervals. See `Broker.reports`."""
        self._poller.start()
        return self._feed.subscribe()

    async def close(self) -> None:
        """Stop asking and close connections."""
        await self._poller.close()
        await self._exchange.close()

    async def _check_sendable(self, request: OrderRequest) -> None:
        """Refuse what ccxt would round on its way, before anything is sent; load the exchange's steps first."""
        name = request.client_order_id
        try:
            await self._exchange.load_markets()
            quantity = self._exchange.amount_to_precision(request.symbol, float(request.quantity))
            price = request.limit_price
            rounded = None if price is None else self._exchange.price_to_precision(request.symbol, float(price))
        except ccxt.BaseError as error:
            raise NotSentError(f"{name}: {read_objection(error, self._secrets)}: not sent") from None
        if Decimal(quantity) != request.quantity or (rounded is not None and Decimal(rounded) != price):
            raise NotSentError(
                f"{name}: expected quantity and price on the exchange's steps, found {request.quantity} at {price}; "
                f"nearest {quantity} at {rounded}"
            )

    def _refused(self, request: OrderRequest, error: Exception) -> Exception:
        """Return what an error proves about an order. Nothing is sent again."""
        said = read_objection(error, self._secrets)
        words = f"submit {request.client_order_id}: {said}"
        if said.is_duplicate:
            return _IdInUseError(words)
        if _never_left(error):
            return NotSentError(words)
        if refuses(self._known, said):
            return DefiniteRejection(words)
        return _unknown(error)(words)

    async def _for_cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        try:
            found = await self._search(client_order_id, symbol, Urgency.CANCEL)
        except TransientError as error:
            raise NotSentError(f"cancel {client_order_id}: not looked up: {error}") from None
        if found is None:
            raise DefiniteRejection(f"cancel {client_order_id}: no such order")
        return found

    async def _search(
        self, client_order_id: str, symbol: str, urgency: Urgency = Urgency.RESOLVE
    ) -> BrokerOrder | None:
        """Search the lists where the exchange finds no order by our id."""
        for method, lists in (("fetchOpenOrders", "fetch_open_orders"), ("fetchClosedOrders", "fetch_closed_orders")):
            if self._exchange.has.get(method):
                found = await self._ask("orders", partial(getattr(self._exchange, lists), symbol), urgency)
                with self._reading("orders"):
                    mine = [one for one in found if one.get("clientOrderId") == client_order_id]
                if mine:
                    return need_order(mine[0])
        return None

    async def _client_id(self, broker_order_id: str, symbol: str) -> str:
        """Return our id of an order that a trade names by theirs, empty where it is not ours."""
        known = self._poller.client_id(symbol, broker_order_id)
        if known is None:
            raw = await self._ask("order", partial(self._exchange.fetch_order, broker_order_id, symbol))
            known = str(raw.get("clientOrderId") or "")
            self._poller.name(symbol, broker_order_id, known)
        return known

    async def _trades(self, symbol: str, start: int) -> list[dict[str, Any]]:
        """Return a symbol's trades from a moment on; exchanges cut long lists, the oldest first mostly."""
        told: dict[str, dict[str, Any]] = {}
        for _ in range(_PAGES):
            found = await self._ask("trades", partial(self._exchange.fetch_my_trades, symbol, start))
            with self._reading("trades"):
                page = {trade["id"]: trade for trade in found if trade["id"] not in told}
                told |= page
                if len(found) < _WHOLE or not page:
                    break
                start = max(trade["timestamp"] for trade in page.values())
        return list(told.values())

    async def _ask(self, what: str, question: Callable[[], Awaitable[_T]], urgency: Urgency = Urgency.LOOK) -> _T:
        async with self._slot(urgency, what):
            try:
                with self._reading(what):
                    return await question()
            except ccxt.BaseError as error:
                raise self._question_failed(what, error) from None

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Have an answer that ccxt or we cannot read break the protocol, and not whoever asked."""
        try:
            yield
        except NONSENSE as error:
            raise ProtocolError(f"{self.name} {what}: an unexpected shape ({type(error).__name__})") from None

    def _slot(
        self, urgency: Urgency, what: str, *, patience_s: float = float("inf")
    ) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._gate is None else self._gate.slot(urgency, what, patience_s=patience_s)

    def _question_failed(self, what: str, error: Exception) -> Exception:
        words = f"{self.name} {what}: {read_objection(error, self._secrets)}"
        if isinstance(error, ccxt.AuthenticationError):
            return ConfigurationError(f"{words}: check the key and its rights")
        if isinstance(error, _THROTTLED):
            return RateLimitedError(words)
        return TransientError(words)


class _IdInUseError(OutcomeUnknownError):
    """The exchange knows an order under this id: ours, whatever else the answer looks like."""


_THROTTLED = (ccxt.RateLimitExceeded, ccxt.DDoSProtection)


def _total(balance: dict[str, Any], asset: str) -> Decimal:
    return exact(balance.get(asset, {}).get("total"))


def _unknown(error: Exception) -> type[OutcomeUnknownError]:
    return ThrottledError if isinstance(error, _THROTTLED) else OutcomeUnknownError


def _never_left(error: Exception) -> bool:
    return error.__cause__ is not None and never_left(error.__cause__)
