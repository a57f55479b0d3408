"""Order entry over HTTP: keys, the gateway's ghosts, and replies that do not arrive as they should."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tasks.simulator.desk import Desk, server_ms
from tasks.simulator.ledger import Order
from tasks.simulator.links import reset
from tasks.simulator.plans import Key, Keyring
from tasks.simulator.refusals import Refusal, envelope
from tasks.simulator.rest import refused

#: How often resting orders are matched while nobody asks.
_MATCH_S = 0.05

Act = Callable[[], Order]


class OrderEntry:
    """Serves ``/v1/orders``, ``/v1/fills``, ``/v1/account`` and ``/v1/time``.

    Attributes:
        requests: How often each ``(method path, status)`` was answered; status 0 is a connection cut instead.
    """

    def __init__(self, desk: Desk, keys: Keyring) -> None:
        self.desk = desk
        self.keys = keys
        self.requests: Counter[tuple[str, int]] = Counter()
        self._ghosts: set[asyncio.Task[Order]] = set()
        self._matching: asyncio.Task[None] | None = None

    def join(self, app: web.Application) -> None:
        """Add the paths and the matching of resting orders to an application."""
        add = app.router
        add.add_post("/v1/orders", self._place)
        add.add_delete("/v1/orders", self._cancel)
        add.add_post("/v1/orders/cancel-after", self._cancel_after)
        add.add_get("/v1/orders", self._reading(lambda key, query: self.desk.find(key, query).describe()))
        add.add_get("/v1/orders/open", self._reading(self._open))
        add.add_get("/v1/orders/history", self._reading(self._history))
        add.add_get("/v1/fills", self._reading(self._fills))
        add.add_get("/v1/account", self._reading(lambda key, _: self.desk.holdings(key)))
        add.add_get("/v1/time", self._reading(lambda *_: {"timestamp": server_ms()}))
        app.on_startup.append(self._start)
        app.on_shutdown.append(self._stop)

    async def _start(self, app: web.Application) -> None:
        self._matching = asyncio.get_running_loop().create_task(self._match())

    async def _stop(self, app: web.Application) -> None:
        tasks = [task for task in (self._matching, *self._ghosts) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _match(self) -> None:
        while True:
            await asyncio.sleep(_MATCH_S)
            self.desk.bury()
            if self.desk.venue.resting:
                self.desk.venue.advance()

    def admit(self, request: web.Request) -> Key:
        """Return the key of a request, counted against its minute."""
        return self.keys.admit(request.headers.get("X-API-Key", ""), request.remote, time.monotonic())

    async def _place(self, request: web.Request) -> web.StreamResponse:
        async def act(key: str) -> web.StreamResponse:
            payload = await _payload(request)
            ticket = self.desk.ticket(payload)
            self.desk.check_deadline(payload)

            def execute() -> Order:
                self.desk.check_deadline(payload)  # again, right before the engine: the gateway may have held it
                return self.desk.place(key, ticket)

            return await self.run(request, key, "place", ticket.client_order_id, execute)

        return await self._answered(request, act)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        async def act(key: str) -> web.StreamResponse:
            order = self.desk.find(key, request.query, lagging=False)
            return await self.run(request, key, "cancel", order.client_order_id, lambda: self.desk.cancel(key, order))

        return await self._answered(request, act)

    async def _cancel_after(self, request: web.Request) -> web.StreamResponse:
        async def act(key: str) -> web.StreamResponse:
            told = self.desk.cancel_after(key, await _payload(request))
            return web.Response(body=envelope(told), content_type="application/json")

        return await self._answered(request, act)

    async def _answered(self, request: web.Request, act: Callable[[str], Any]) -> web.StreamResponse:
        name = f"{request.method} {request.path}"
        try:
            answer = await act(self.admit(request).text)
        except Refusal as refusal:
            answer = refused(refusal)
        self.requests[name, answer.status if request.transport else 0] += 1
        return answer

    async def run(
        self,
        request: web.Request,
        key: str,
        verb: str,
        client_order_id: str,
        act: Act,
        write: Callable[[Order], bytes] | None = None,
    ) -> web.StreamResponse:
        """Carry out one order or cancel as its fate wills, and reply, or not.

        Args:
            request: Who asks.
            key: Their account.
            verb: ``place`` or ``cancel``.
            client_order_id: What the dice are thrown for.
            act: Does it.
            write: Writes the reply; None writes the envelope.

        Raises:
            Refusal: What `act` raises, or the fault.
        """
        delay_s, fate = self.desk.fate(key, verb, client_order_id)
        if fate == "error_before":
            raise Refusal(5000)
        if fate == "reject":
            raise Refusal(6003, "rejected by the venue")
        order = await self._held(delay_s, act) if delay_s else act()
        body = write(order) if write else envelope(order.describe())
        return await self._reply(request, fate, body)

    async def _held(self, delay_s: float, act: Act) -> Order:
        """Act later, whether or not the client is still there."""

        async def ghost() -> Order:
            await asyncio.sleep(delay_s)
            return act()

        task = asyncio.get_running_loop().create_task(ghost())
        self._ghosts.add(task)
        task.add_done_callback(self._laid)
        return await asyncio.shield(task)

    def _laid(self, task: asyncio.Task[Order]) -> None:
        self._ghosts.discard(task)
        if not task.cancelled():
            task.exception()  # the client may have left; whoever still waits is told by the shield

    async def _reply(self, request: web.Request, fate: str | None, body: bytes) -> web.StreamResponse:
        if fate == "error_after":
            raise Refusal(5000)
        if fate == "throttle_after":
            raise Refusal(3001, headers={"Retry-After": "1"})
        if fate == "late_reply":
            await asyncio.sleep(self.desk.faults.late_reply_s)
        if fate == "lost_reply" and request.transport is not None:
            request.transport.abort()
        if fate != "reset_body":
            return web.Response(body=body, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if isinstance(request.transport, asyncio.Transport):
            reset(request.transport)
        return response

    def _reading(self, view: Callable[[str, Mapping[str, str]], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            async def act(key: str) -> web.StreamResponse:
                return web.Response(body=envelope(view(key, request.query)), content_type="application/json")

            return await self._answered(request, act)

        return handle

    def _open(self, key: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [order.describe() for order in self.desk.orders(key, only_open=True, symbol=query.get("symbol"))]

    def _history(self, key: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [order.describe() for order in self.desk.orders(key, only_open=False, symbol=query.get("symbol"))]

    def _fills(self, key: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [fill.describe() for fill in self.desk.fills(key, query)]


async def _payload(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        Refusal: 2001 where it is none.
    """
    try:
        payload = json.loads(await request.read())
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise Refusal(2001, "expected a JSON object")
    return payload
