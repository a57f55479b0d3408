"""The WebSocket side: handshake, commands, and the list of connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from tasks.simulator import wire
from tasks.simulator.answers import Answers
from tasks.simulator.faults import Injection, StreamFaults, chance
from tasks.simulator.feed import Feed
from tasks.simulator.instruments import TYPES
from tasks.simulator.links import Link, Links, Topic
from tasks.simulator.plans import Key, Keyring
from tasks.simulator.refusals import Refusal, envelope
from tasks.simulator.rest import refused

CHANNELS = ("ticker", "depth", "trade")
_HALF_OPEN_S = 30.0  # a client that waits longer for the answer to its close is cut
_UNAVAILABLE = {"depth": 4003, "trade": 4004}


class Realtime:
    """Serves ``/v1/realtime`` and ``/v1/connections``.

    Attributes:
        faults: What goes wrong for connections that open from now on; may be replaced at any time.
        links: Every connection.
        injected: Every fault that happened on the stream, in order.
    """

    def __init__(self, answers: Answers, keys: Keyring) -> None:
        self.answers = answers
        self.keys = keys
        self.faults = StreamFaults()
        self.links = Links()
        self.injected: list[Injection] = []
        self.feed = Feed(answers.quotes, answers.market.clock, self.links, self.injected)
        self._playing: asyncio.Task[None] | None = None

    def join(self, app: web.Application) -> None:
        """Add the paths and the player to an application."""
        app.router.add_get("/v1/realtime", self._connect)
        app.router.add_get("/v1/connections", self._list)
        app.router.add_delete("/v1/connections/{id}", self._delete)
        app.on_startup.append(self._start)
        app.on_shutdown.append(self._stop)

    def strike(self, how: str) -> int:
        """End every open connection in one of the ways of `ENDINGS`; return how many there were."""
        struck = [link for link in self.links.living if link.state != "gone"]
        for link in struck:
            self.injected.append(Injection(how, link.id, timestamp=self.answers.market.now))
            link.end(how)
        return len(struck)

    async def _start(self, app: web.Application) -> None:
        self._playing = asyncio.get_running_loop().create_task(self.feed.run())

    async def _stop(self, app: web.Application) -> None:
        if self._playing is not None:
            self._playing.cancel()
            with suppress(asyncio.CancelledError):
                await self._playing
        for link in tuple(self.links.living):
            link.transport.abort()

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        faults = self.faults
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=1 << 20)
        try:
            key = self._allowed(request, faults)
        except Refusal as refusal:
            if refusal.code not in self.answers.dialect.refused_in_band:
                return refused(refusal)
            await socket.prepare(request)
            _transport(request).write(wire.message("connect", None, code=refusal.code, message=refusal.message))
            await socket.close(code=wire.POLICY)
            return socket
        link = self.links.add(key, _transport(request), faults)  # before any await, or two could take the last place
        clean = False
        try:
            await socket.prepare(request)
            if link.ending == "accept_close":
                self.injected.append(Injection("accept_close", link.id, timestamp=self.answers.market.now))
                link.end("accept_close")
            clean = await self._converse(socket, link)
        finally:
            self.links.remove(link, clean=clean)
        return socket

    def _allowed(self, request: web.Request, faults: StreamFaults) -> Key:
        """Return the key of a new connection.

        Raises:
            Refusal: 1001 to 1003 for the key, 3003 for its connections, or the code that the faults force.
        """
        if faults.connect_code is not None:
            self.injected.append(Injection("connect_code", str(faults.connect_code)))
            raise Refusal(faults.connect_code)
        key = self.keys.find(request.query.get("api_key", ""), request.remote)
        if len(self.links.of(key)) >= key.plan.connections:
            raise Refusal(3003, f"{key.plan.name} plan: {key.plan.connections} connections")
        return key

    async def _converse(self, socket: web.WebSocketResponse, link: Link) -> bool:
        """Obey commands until the connection ends; return whether both sides said goodbye."""
        async for message in socket:
            if link.state in ("silent", "half_open"):
                continue
            if message.type is WSMsgType.PING:
                link.write_raw(wire.frame(message.data, wire.PONG))
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                for answer in self._obey(message.data, link):
                    link.write_raw(answer)
        said_goodbye = socket.close_code is not None and socket.close_code != 1006
        if said_goodbye and link.state == "half_open":
            await link.wait_gone(_HALF_OPEN_S)
            return False
        if said_goodbye:
            if link.state != "gone":
                link.transport.write(wire.close(socket.close_code or wire.NORMAL))
            link.transport.close()
        return said_goodbye

    def _obey(self, text: str | bytes, link: Link) -> Iterable[bytes]:
        """Return the answers to one command."""
        try:
            command = json.loads(text)
        except ValueError:
            return [_answer("error", Refusal(4002, "expected JSON"))]
        if not isinstance(command, dict) or not isinstance(command.get("cmd"), str):
            return [_answer("error", Refusal(4002, "expected an object with cmd"))]
        name = command["cmd"]
        if name == "ping":
            stamp = self.answers.market.clock() + link.faults.skew_ms
            return [wire.message("pong", {"timestamp": stamp})]
        if link.state != "alive":
            return []
        if name not in ("subscribe", "unsubscribe"):
            return [_answer(name, Refusal(4001, name))]
        return self._change(name, command.get("data"), link)

    def _change(self, name: str, data: Any, link: Link) -> Iterable[bytes]:
        """Return the answers to a subscribe or unsubscribe: one for what was done, one for each reason to refuse."""
        faults = link.faults
        try:
            channel, symbols = _asked(data)
            if faults.command_code is not None:
                raise Refusal(faults.command_code)
            if channel in faults.channels_down or (channel != "ticker" and not link.key.plan.depth_and_trades):
                raise Refusal(_UNAVAILABLE.get(channel, 5001), channel)
        except Refusal as refusal:
            return [_answer(name, refusal, data)]
        kind = data.get("type") if data.get("type") in TYPES else None
        done, refusals, news = [], {}, []
        for symbol in symbols:
            try:
                topic = (channel, self.answers.instrument(symbol, kind))
                news += self._apply(name, topic, link)
                done.append(symbol)
            except Refusal as refusal:
                refusals.setdefault(refusal.code, (refusal, []))[1].append(symbol)
        answers = [_answer(name, refusal, {"channel": channel, "symbols": some}) for refusal, some in refusals.values()]
        if done:
            answers.insert(0, wire.message(name, {"channel": channel, "symbols": done}, code=0, message="success"))
        link.commands += 1
        if chance(faults.seed, "drop_ack", link.number, link.commands) < faults.drop_ack_p:
            self.injected.append(Injection("drop_ack", link.id, timestamp=self.answers.market.now))
            answers = []
        self.feed.subscribed.set()
        return [*answers, *news]

    def _apply(self, name: str, topic: Topic, link: Link) -> list[bytes]:
        """Change one subscription; return the message that stands for a new subscriber.

        Raises:
            Refusal: 3004 where the plan allows no more.
        """
        if name == "unsubscribe":
            link.topics.discard(topic)
            return []
        if topic in link.topics:
            return []
        if self.links.subscriptions(link.key) >= link.key.plan.subscriptions:
            raise Refusal(3004, f"{link.key.plan.name} plan: {link.key.plan.subscriptions} subscriptions")
        link.topics.add(topic)
        standing = self.feed.snapshot(topic, link.faults)
        return [standing] if standing else []

    async def _list(self, request: web.Request) -> web.Response:
        try:
            key = self.keys.admit(request.headers.get("X-API-Key", ""), request.remote, time.monotonic())
        except Refusal as refusal:
            return refused(refusal)
        body = envelope([link.describe() for link in self.links.of(key)])
        return web.Response(body=body, content_type="application/json")

    async def _delete(self, request: web.Request) -> web.Response:
        link_id = request.match_info["id"]
        try:
            key = self.keys.admit(request.headers.get("X-API-Key", ""), request.remote, time.monotonic())
            if not self.links.kill(key, link_id):
                raise Refusal(404, link_id)
        except Refusal as refusal:
            return refused(refusal)
        return web.Response(body=envelope({"id": link_id}), content_type="application/json")


def _transport(request: web.Request) -> asyncio.Transport:
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionResetError("the client left during the handshake")
    return transport


def _asked(data: Any) -> tuple[str, list[str]]:
    """Return channel and symbols of a command's data.

    Raises:
        Refusal: 4002 for data of another shape, 2001 for a channel that does not exist.
    """
    symbols = data.get("symbols") if isinstance(data, dict) else None
    if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str) for symbol in symbols):
        raise Refusal(4002, "expected data with channel and symbols")
    if data.get("channel") not in CHANNELS:
        raise Refusal(2001, f"channel must be one of {', '.join(CHANNELS)}")
    return data["channel"], symbols


def _answer(cmd: str, refusal: Refusal, data: object = None) -> bytes:
    return wire.message(cmd, data, code=refusal.code, message=refusal.message)
