"""The private stream: an account's order changes and fills, pushed as they happen."""

from __future__ import annotations

import asyncio
import json

from aiohttp import WSMsgType, web

from tasks.simulator import wire
from tasks.simulator.desk import Desk
from tasks.simulator.faults import Injection, StreamFaults, chance
from tasks.simulator.ledger import Fill, Order
from tasks.simulator.links import Links
from tasks.simulator.plans import Keyring
from tasks.simulator.refusals import Refusal
from tasks.simulator.rest import refused


class Private:
    """Serves ``/v1/private``.

    Messages are ``{"cmd":"order","data":{…}}`` and ``{"cmd":"fill","data":{…}}`` with what the REST side shows; a ping
    is answered as on the public stream. Nothing is replayed to a new connection.

    Attributes:
        links: Every private connection.
    """

    def __init__(self, desk: Desk, keys: Keyring) -> None:
        self.desk = desk
        self.keys = keys
        self.links = Links()
        self._news: list[tuple[str, Order | Fill]] = []
        desk.venue.listeners.append(self._told)

    def join(self, app: web.Application) -> None:
        """Add the path to an application."""
        app.router.add_get("/v1/private", self._connect)
        app.on_shutdown.append(self._stop)

    def strike(self, how: str) -> int:
        """End every private connection in one of the ways of `ENDINGS`; return how many there were."""
        struck = [link for link in self.links.living if link.state != "gone"]
        for link in struck:
            self.desk.injected.append(Injection(how, f"private {link.id}", timestamp=self.desk.answers.market.now))
            link.end(how)
        return len(struck)

    async def _stop(self, app: web.Application) -> None:
        for link in tuple(self.links.living):
            link.transport.abort()

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        text = request.headers.get("X-API-Key") or request.query.get("api_key", "")
        try:
            key = self.keys.find(text, request.remote)
        except Refusal as refusal:
            return refused(refusal)
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        if not isinstance(request.transport, asyncio.Transport):
            return socket
        link = self.links.add(key, request.transport, StreamFaults())
        try:
            async for message in socket:
                if link.state in ("silent", "half_open"):
                    continue
                if message.type is WSMsgType.PING:
                    link.write_raw(wire.frame(message.data, wire.PONG))
                elif message.type is WSMsgType.TEXT and _is_ping(message.data):
                    stamp = self.desk.venue.quotes.market.clock()
                    link.write_raw(wire.message("pong", {"timestamp": stamp}))
        finally:
            self.links.remove(link, clean=True)
        return socket

    def _told(self, key: str, news: Order | Fill) -> None:
        """Collect what one command did; it is pushed when the command is done."""
        if not self._news:
            asyncio.get_running_loop().call_soon(self._flush)
        self._news.append((key, news))

    def _flush(self) -> None:
        news, self._news = self._news, []
        for key in dict.fromkeys(key for key, _ in news):
            frames = self._frames([item for owner, item in news if owner == key])
            for link in tuple(self.links.living):
                if link.key.text == key:
                    link.write(frames)

    def _frames(self, news: list[Order | Fill]) -> list[bytes]:
        """Return the messages about some news, in the order and number that the faults leave."""
        faults = self.desk.faults
        order = news[0] if isinstance(news[0], Order) else news[0].order
        fills, others = (
            [item for item in news if isinstance(item, Fill)],
            [item for item in news if isinstance(item, Order)],
        )
        if len(fills) > 1 and self._struck("reorder_fills", order.order_id, faults.reorder_fills_p):
            places = iter(fills[::-1])
            news = [next(places) if isinstance(item, Fill) else item for item in news]
            fills = fills[::-1]
        if fills and others and self._struck("late_ack", order.order_id, faults.late_ack_p):
            news = [*fills, *others]
        told: list[Order | Fill] = []
        for item in news:
            name = item.trade_id if isinstance(item, Fill) else f"{item.order_id} {item.status} {item.filled}"
            if self._struck("lose_push", name, faults.lose_push_p):
                continue
            twice = isinstance(item, Fill) and self._struck("duplicate_fill", name, faults.duplicate_fill_p)
            told += [item, item] if twice else [item]
        return [wire.message("fill" if isinstance(item, Fill) else "order", item.describe()) for item in told]

    def _struck(self, fault: str, name: str, probability: float) -> bool:
        hit = chance(self.desk.faults.seed, fault, name) < probability
        if hit:
            self.desk.injected.append(Injection(fault, name))
        return hit


def _is_ping(text: str) -> bool:
    try:
        command = json.loads(text)
    except ValueError:
        return False
    return isinstance(command, dict) and command.get("cmd") == "ping"
