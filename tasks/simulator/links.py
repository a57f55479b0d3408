"""The stream's connections: what each has subscribed, how it ends, and how many a key may hold."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import dataclass, field

from tasks.simulator import wire
from tasks.simulator.faults import StreamFaults, chance
from tasks.simulator.instruments import Instrument
from tasks.simulator.plans import Key

_GOODBYE_S = 2.0  # how long a client may take to answer a close
MAX_UNSENT_BYTES = 16 * 1024 * 1024

Topic = tuple[str, Instrument]  #: channel and instrument


@dataclass(eq=False, slots=True)
class Link:
    """One connection as the server sees it.

    Attributes:
        number: Counts up from 1; the connection's id.
        key: Who it belongs to.
        transport: The socket beneath the WebSocket.
        faults: What was going wrong when it connected.
        topics: What it is subscribed to.
        state: ``alive``, ``silent``, ``silent_pong``, ``half_open`` or ``gone``.
        written: Messages written to it.
        commands: Subscribes and unsubscribes received.
        opened_at: When it connected, wall clock.
    """

    number: int
    key: Key
    transport: asyncio.Transport
    faults: StreamFaults
    topics: set[Topic] = field(default_factory=set)
    state: str = "alive"
    written: int = 0
    commands: int = 0
    opened_at: float = field(default_factory=time.time)
    _unsent: bytearray = field(default_factory=bytearray)
    _dripping: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """The id that `/v1/connections` lists."""
        return f"conn-{self.number}"

    @property
    def ending(self) -> str | None:
        """How this connection is going to end, None for not by itself."""
        if not self.faults.endings:
            return None
        draw = chance(self.faults.seed, "ending", self.number)
        return self.faults.endings[int(draw * len(self.faults.endings))]

    @property
    def frames_left(self) -> int:
        """How many more messages it gets before it ends."""
        spread = chance(self.faults.seed, "ending_after", self.number)
        return max(0, 1 + int(spread * 2 * self.faults.ending_after_frames) - self.written)

    def write(self, frames: list[bytes]) -> None:
        """Send messages, unless the connection has fallen silent."""
        if self.state == "alive":
            self.written += len(frames)
            self.write_raw(b"".join(frames))

    def write_raw(self, data: bytes) -> None:
        """Send bytes as they are, a few at a time where the faults say so."""
        if self.transport.is_closing():
            return
        if not self.faults.drip_bytes:
            self.transport.write(data)
            return
        self._unsent += data
        if self._dripping is None or self._dripping.done():
            self._dripping = asyncio.get_running_loop().create_task(self._drip())

    async def _drip(self) -> None:
        while self._unsent and not self.transport.is_closing():
            self.transport.write(bytes(self._unsent[: self.faults.drip_bytes]))
            del self._unsent[: self.faults.drip_bytes]
            await asyncio.sleep(self.faults.drip_s)

    async def wait_gone(self, timeout_s: float) -> None:
        """Return when the peer has closed the socket, at the latest after `timeout_s`, when it is cut."""
        until = time.monotonic() + timeout_s
        # Polled, because only aiohttp's protocol is told of the end.
        while not self.transport.is_closing() and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self.transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes the reader has not taken yet."""
        return self.transport.get_write_buffer_size() + len(self._unsent)

    def end(self, how: str) -> None:
        """End or silence the connection in one of the ways of `ENDINGS`."""
        if self.state == "gone":
            return
        if how in ("silent", "silent_pong", "half_open"):
            self.state = how
            return
        self.state = "gone"
        if how == "mid_frame":
            whole = wire.frame(b'{"cmd":"depth","data":{"symbol":"' + b"x" * 400)
            self.transport.write(whole[: len(whole) // 2])
            self.transport.close()
        elif how == "rst":
            reset(self.transport)
        elif how == "fin":
            self.transport.close()
        else:
            # Closing the socket at once would reset it under the client's answer, and lose what it has not read.
            self.transport.write(wire.close(wire.GOING_AWAY))
            asyncio.get_running_loop().call_later(_GOODBYE_S, self.transport.close)

    def describe(self) -> dict[str, object]:
        """Return what `/v1/connections` lists of it."""
        return {
            "id": self.id,
            "connected_at": int(self.opened_at * 1000),
            "subscriptions": len(self.topics),
            "status": "active" if self.state == "alive" else "stale",
        }


def reset(transport: asyncio.Transport) -> None:
    """Close with a RST packet: what is unsent is lost, and the peer reads an error instead of an end."""
    peer = transport.get_extra_info("socket")
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Links:
    """Every connection, the dead ones included for as long as the server has not noticed.

    Attributes:
        living: Connections whose socket is open.
        opened: How many there ever were.
    """

    def __init__(self) -> None:
        self.living: list[Link] = []
        self.opened = 0
        self._zombies: list[tuple[Link, float]] = []  # and when each is reaped, monotonic

    def add(self, key: Key, transport: asyncio.Transport, faults: StreamFaults) -> Link:
        """Register a new connection."""
        self.opened += 1
        link = Link(self.opened, key, transport, faults)
        self.living.append(link)
        return link

    def remove(self, link: Link, *, clean: bool) -> None:
        """Forget a connection; one that was cut haunts its key's limit for the faults' `zombie_s`."""
        if link in self.living:
            self.living.remove(link)
            if not clean and link.faults.zombie_s > 0:
                self._zombies.append((link, time.monotonic() + link.faults.zombie_s))
        link.state = "gone"

    def of(self, key: Key) -> list[Link]:
        """Return what counts against a key: its open connections and its zombies."""
        now = time.monotonic()
        self._zombies = [(link, until) for link, until in self._zombies if until > now]
        everything = [*self.living, *(link for link, _ in self._zombies)]
        return [link for link in everything if link.key.text == key.text]

    def kill(self, key: Key, link_id: str) -> bool:
        """Close the connection of that id, zombie or not; return whether there was one."""
        for link in self.of(key):
            if link.id == link_id:
                self._zombies = [item for item in self._zombies if item[0] is not link]
                link.end("close")
                return True
        return False

    def subscriptions(self, key: Key) -> int:
        """Return how many topics a key is subscribed to, over all that count."""
        return sum(len(link.topics) for link in self.of(key))
