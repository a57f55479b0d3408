"""A WebSocket server that misbehaves on command, written on bare sockets so that it can break every rule."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable

from stream_frames import answer, depth, pong, trade

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return one unmasked WebSocket frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


class Peer:
    """One client, after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.subscribed: set[tuple[str, str]] = set()
        self.pings = 0
        self.trade_id = 0

    async def receive(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        mask = await self.reader.readexactly(4)
        masked = await self.reader.readexactly(size)
        return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))

    def send(self, payload: bytes, opcode: int = 1) -> None:
        """Send one frame."""
        self.writer.write(frame(payload, opcode))

    async def obey(self) -> None:
        """Take one frame of the client and answer it as the vendor would."""
        opcode, payload = await self.receive()
        if opcode == 8:
            self.send(payload, 8)
            raise ConnectionResetError
        if opcode != 1:
            return
        command = json.loads(payload)
        if command["cmd"] == "ping":
            self.pings += 1
            self.send(pong())
            return
        keys = {(command["data"]["channel"], symbol) for symbol in command["data"]["symbols"]}
        self.subscribed = self.subscribed | keys if command["cmd"] == "subscribe" else self.subscribed - keys
        self.send(answer(0, command["cmd"], command["data"]["channel"], command["data"]["symbols"]))

    def deliver(self) -> None:
        """Send one message of everything that is subscribed."""
        self.trade_id += 1
        for channel, symbol in sorted(self.subscribed):
            self.send(depth(symbol) if channel == "depth" else trade(symbol, f"{id(self)}-{self.trade_id}"))

    async def obey_until(self, count: int) -> None:
        """Answer commands until `count` subscriptions stand, then deliver once."""
        while len(self.subscribed) < count:
            await self.obey()
        self.deliver()
        await self.writer.drain()

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        handle = self.writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


class HostileServer:
    """Serves `behaviour` to every client; refuses handshakes with `refusal` while it is set.

    Attributes:
        behaviour: What is done with a client; its return or failure ends the connection.
        refusal: (status, body, headers) to answer handshakes with, None to accept.
        handshakes: Attempts so far, refused ones included.
        connected: Set at every accepted handshake.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.refusal: tuple[int, bytes, str] | None = None
        self.handshakes = 0
        self.requests: list[str] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> HostileServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head.splitlines()[0])
            self.handshakes += 1
            if self.refusal is not None:
                status, body, headers = self.refusal
                writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)
                await writer.drain()
                return
            writer.write(_upgrade(head))
            await self.behaviour(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, or the behaviour ends the connection this way
        finally:
            writer.close()


def _upgrade(head: str) -> bytes:
    lines = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
    digest = hashlib.sha1((lines["Sec-WebSocket-Key"] + _MAGIC).encode()).digest()  # noqa: S324  # RFC 6455
    accept = base64.b64encode(digest).decode()
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


async def well(peer: Peer) -> None:
    """Behave as the vendor promises: answer everything, deliver every 20 ms."""

    async def deliver() -> None:
        while True:
            peer.deliver()
            await asyncio.sleep(0.02)

    delivering = asyncio.create_task(deliver())
    try:
        while True:
            await peer.obey()
    finally:
        delivering.cancel()
