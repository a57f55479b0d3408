"""A WebSocket server that does nothing but write ready-made depth frames as fast as its reader takes them."""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import socket
import struct
import threading
from random import Random

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BLOCK = 10_000


def serve(ports: multiprocessing.Queue, symbols: list[str], messages: int) -> None:
    """Serve for ever; put the port into `ports`. Each connection gets `messages` messages after its first command."""
    block = b"".join(frames(symbols))
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports.put(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_feed, args=(connection, block, messages), daemon=True).start()


def _feed(connection: socket.socket, block: bytes, messages: int) -> None:
    with connection:
        shake_hands(connection)
        try:
            for _ in range(messages // _BLOCK):
                connection.sendall(block)
            threading.Event().wait(10.0)  # the reader closes
        except OSError:
            return  # the reader has left


def shake_hands(connection: socket.socket) -> None:
    """Upgrade to a WebSocket, wait for the first command, and read on so that the client is never stopped."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())  # noqa: S324  # RFC 6455
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    connection.recv(65536)  # the subscription
    threading.Thread(target=_drain, args=(connection,), daemon=True).start()


def _drain(connection: socket.socket) -> None:
    try:
        while connection.recv(65536):
            pass
    except OSError:
        return


def frames(symbols: list[str]) -> list[bytes]:
    """Return one block of frames: ten levels of changing prices and sizes, about 570 bytes each."""
    rng, made = Random(3), []  # noqa: S311
    for number in range(_BLOCK):
        mid = 97_000.0 + rng.uniform(-50, 50)
        sides = [
            [[f"{mid + sign * (0.5 + level * 0.5):.2f}", f"{rng.uniform(0.01, 9):.4f}"] for level in range(10)]
            for sign in (-1, 1)
        ]
        data = {
            "symbol": symbols[number % len(symbols)],
            "bids": sides[0],
            "asks": sides[1],
            "timestamp": 1_772_409_600_000 + number,
        }
        payload = json.dumps({"cmd": "depth", "data": data}, separators=(",", ":")).encode()
        made.append(frame(payload))
    return made


def frame(payload: bytes) -> bytes:
    """Return a text frame of medium length, as a server sends it."""
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload
