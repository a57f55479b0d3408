"""The same order entry once more, spoken as Binance spot speaks it, so that other people's client code can be tried.

Only what a trading client calls: exchangeInfo, time, depth, order, openOrders, allOrders, myTrades, account. It shows
crypto instruments quoted in USDT. A signature must be there; it is not checked. Orders, faults and accounts are those
of `desk`; what Binance itself promises is ``OrderFaults(uniqueness="open")`` and `recvWindow`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tasks.simulator.answers import MAX_DEPTH
from tasks.simulator.desk import Desk, server_ms
from tasks.simulator.entry import OrderEntry
from tasks.simulator.instruments import Instrument
from tasks.simulator.ledger import Fill, Order, plain
from tasks.simulator.plans import Keyring
from tasks.simulator.refusals import Refusal

_QUOTE = "USDT"
_STATUS = {
    "new": "NEW",
    "partially_filled": "PARTIALLY_FILLED",
    "filled": "FILLED",
    "canceled": "CANCELED",
    "expired": "EXPIRED",
    "rejected": "REJECTED",
}
#: Our code → Binance's code and words; whatever is not here is -1000.
_CODES = {
    1001: (-2015, "Invalid API-key, IP, or permissions for action."),
    1002: (-2014, "API-key format invalid."),
    1003: (-2015, "Invalid API-key, IP, or permissions for action."),
    2001: (-1102, "Mandatory parameter was not sent, was empty/null, or malformed."),
    2002: (-1121, "Invalid symbol."),
    3001: (-1003, "Too many requests."),
    6001: (-2013, "Order does not exist."),
    6002: (-2010, "Duplicate order sent."),
    6003: (-2010, "Order would be rejected."),
    6004: (-1021, "Timestamp for this request is outside of the recvWindow."),
    6005: (-2011, "Unknown order sent."),
}

Query = Mapping[str, str]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Binance:
    """Serves ``/api/v3/…``."""

    def __init__(self, desk: Desk, keys: Keyring, entry: OrderEntry) -> None:
        self.desk = desk
        self.keys = keys
        self.entry = entry

    def join(self, app: web.Application) -> None:
        """Add the paths to an application."""
        add = app.router
        add.add_get("/api/v3/ping", self._public(lambda _: {}))
        add.add_get("/api/v3/time", self._public(lambda _: {"serverTime": server_ms()}))
        add.add_get("/api/v3/exchangeInfo", self._public(lambda _: self._exchange_info()))
        add.add_get("/api/v3/depth", self._public(self._depth))
        add.add_post("/api/v3/order", self._signed(self._place))
        add.add_delete("/api/v3/order", self._signed(self._cancel))
        add.add_get("/api/v3/order", self._signed(self._find))
        add.add_get("/api/v3/openOrders", self._signed(self._list(only_open=True)))
        add.add_get("/api/v3/allOrders", self._signed(self._list(only_open=False)))
        add.add_get("/api/v3/myTrades", self._signed(self._trades))
        add.add_get("/api/v3/account", self._signed(self._account))

    def _public(self, view: Callable[[Query], object]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return web.json_response(view(request.query))
            except Refusal as refusal:
                return _refused(refusal)

        return handle

    def _signed(self, act: Callable[[web.Request, str, Query], Awaitable[web.StreamResponse]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                text = request.headers.get("X-MBX-APIKEY", "")
                key = self.keys.admit(text, request.remote, time.monotonic())
                query = {**request.query, **dict(parse_qsl((await request.read()).decode()))}
                if not query.get("signature") or not query.get("timestamp"):
                    raise Refusal(2001, "signature and timestamp are required")
                query = {**query, "recv_window": query.get("recvWindow", "5000")}
                self.desk.check_deadline(query)
                return await act(request, key.text, query)
            except Refusal as refusal:
                return _refused(refusal)

        return handle

    async def _place(self, request: web.Request, key: str, query: Query) -> web.StreamResponse:
        asked = {
            "client_order_id": query.get("newClientOrderId") or f"x-{server_ms()}-{time.monotonic_ns()}",
            "symbol": query.get("symbol"),
            "side": query.get("side", "").lower(),
            "order_type": query.get("type", "").lower(),
            "quantity": query.get("quantity"),
            "price": query.get("price"),
            "time_in_force": query.get("timeInForce", "GTC").lower(),
        }
        ticket = self.desk.ticket(asked)

        def execute() -> Order:
            self.desk.check_deadline(query)
            return self.desk.place(key, ticket)

        return await self.entry.run(request, key, "place", ticket.client_order_id, execute, self._full(key))

    async def _cancel(self, request: web.Request, key: str, query: Query) -> web.StreamResponse:
        try:
            order = self.desk.find(key, _named(query), lagging=False)
        except Refusal as refusal:
            raise Refusal(6005) from refusal  # Binance knows no order to cancel that is not open
        act = lambda: self.desk.cancel(key, order)  # noqa: E731
        own_id = query.get("newClientOrderId") or secrets.token_hex(11)
        write = lambda ended: json.dumps(_cancelled(ended, own_id)).encode()  # noqa: E731
        return await self.entry.run(request, key, "cancel", order.client_order_id, act, write)

    async def _find(self, request: web.Request, key: str, query: Query) -> web.StreamResponse:
        return web.json_response(_order(self.desk.find(key, _named(query))))

    def _list(self, *, only_open: bool) -> Callable[[web.Request, str, Query], Awaitable[web.StreamResponse]]:
        async def act(request: web.Request, key: str, query: Query) -> web.StreamResponse:
            orders = self.desk.orders(key, only_open=only_open, symbol=query.get("symbol"))
            return web.json_response([_order(order) for order in orders])

        return act

    async def _trades(self, request: web.Request, key: str, query: Query) -> web.StreamResponse:
        wanted = {"symbol": query.get("symbol", ""), "start_time": query.get("startTime", "0")}
        if query.get("orderId"):
            wanted["order_id"] = query["orderId"]
        return web.json_response([_trade(fill) for fill in self.desk.fills(key, wanted)])

    async def _account(self, request: web.Request, key: str, query: Query) -> web.StreamResponse:
        holdings = self.desk.holdings(key)
        cash = holdings["balances"][0]
        locked = Decimal(cash["total"]) - Decimal(cash["available"])
        balances = [{"asset": _QUOTE, "free": cash["available"], "locked": plain(locked)}]
        for position in holdings["positions"]:
            asset = position["symbol"].removesuffix(_QUOTE)
            balances.append({"asset": asset, "free": position["quantity"], "locked": "0"})
        return web.json_response({"canTrade": True, "accountType": "SPOT", "balances": balances})

    def _exchange_info(self) -> dict[str, Any]:
        listed = [item for item in self.desk.answers.market.instruments if item.symbol.endswith(_QUOTE)]
        return {"timezone": "UTC", "serverTime": server_ms(), "symbols": [_symbol(item) for item in listed]}

    def _depth(self, query: Query) -> dict[str, Any]:
        item = self.desk.answers.instrument(query.get("symbol", ""), "crypto")
        limit = min(int(query.get("limit") or 10), MAX_DEPTH)
        book = self.desk.answers.quotes.depth(item, limit)
        return {"lastUpdateId": book["timestamp"], "bids": book["bids"], "asks": book["asks"]}

    def _full(self, key: str) -> Callable[[Order], bytes]:
        """Return the writer of a reply of type FULL: the order with its fills."""

        def write(order: Order) -> bytes:
            fills = self.desk.fills(key, {"order_id": order.order_id})
            return json.dumps({**_order(order), "fills": [_trade(fill) for fill in fills]}).encode()

        return write


def _named(query: Query) -> dict[str, str]:
    """Return which order a query names, in our words."""
    if query.get("orderId"):
        return {"order_id": query["orderId"]}
    return {"client_order_id": query.get("origClientOrderId", "")}


def _order(order: Order) -> dict[str, Any]:
    return {
        "symbol": order.item.symbol,
        "orderId": int(order.order_id),
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": plain(order.price) if order.price is not None else "0",
        "origQty": plain(order.quantity),
        "executedQty": plain(order.filled),
        "cummulativeQuoteQty": plain(order.cost),
        "status": _STATUS[order.status],
        "timeInForce": order.time_in_force.upper(),
        "type": order.kind.upper(),
        "side": order.side.upper(),
        "time": order.created_ms,
        "transactTime": order.updated_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.open,
    }


def _cancelled(order: Order, own_id: str) -> dict[str, Any]:
    """Return the reply to a cancel, where `clientOrderId` is the id of the cancel itself, not of the order it ended."""
    told = _order(order)
    for name in ("time", "updateTime", "isWorking"):
        del told[name]
    return told | {"origClientOrderId": order.client_order_id, "clientOrderId": own_id}


def _trade(fill: Fill) -> dict[str, Any]:
    number = int(fill.trade_id.removeprefix("t"))
    return {
        "symbol": fill.order.item.symbol,
        "id": number,
        "tradeId": number,
        "orderId": int(fill.order.order_id),
        "price": plain(fill.price),
        "qty": plain(fill.quantity),
        "quoteQty": plain(fill.price * fill.quantity),
        "commission": plain(fill.fee),
        "commissionAsset": _QUOTE,
        "time": fill.timestamp_ms,
        "isBuyer": fill.order.side == "buy",
        "isMaker": fill.maker,
    }


def _symbol(item: Instrument) -> dict[str, Any]:
    tick, lot = (f"{10**-digits:.{digits}f}" for digits in (item.price_decimals, item.lot_decimals))
    return {
        "symbol": item.symbol,
        "status": "TRADING",
        "baseAsset": item.symbol.removesuffix(_QUOTE),
        "quoteAsset": _QUOTE,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "100000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "100000000", "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "0"},
        ],
    }


def _refused(refusal: Refusal) -> web.Response:
    code, words = _CODES.get(refusal.code, (-1000, "An unknown error occurred while processing the request."))
    status = refusal.status if refusal.status in (401, 429) or refusal.status >= 500 else 400
    return web.json_response({"code": code, "msg": words}, status=status, headers=refusal.headers)
