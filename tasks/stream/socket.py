"""The session's driver: aiohttp, tasks and a clock around a state machine that has none of them.

The vendor's key travels in the URL, and aiohttp prints that URL in its errors; so no error of aiohttp is ever kept,
logged or raised from here: only its type's name, an HTTP status and the vendor's code leave this file.

aiohttp's own heartbeat stays off: it declares a healthy link dead when the loop stalls for half its interval. The
session's pings do that work, and the kernel's ``TCP_USER_TIMEOUT`` is the detector that needs no frame at all. The
reader never waits for whoever uses the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr

from tasks.errors import ProtocolError
from tasks.stream.events import Abort, Close, Command, Connect, Event, Reap, Send
from tasks.stream.messages import Message, read_connections, refusal_code
from tasks.stream.session import Session
from tasks.stream.states import State
from tasks.stream.subscriptions import Topic

TICK_S = 0.1
#: The reader lets the others have their turn after so long: pings, consumers, the control page.
SLICE_S = 0.0005
#: Frames waiting to be sent; a peer that lets more than this pile up does not read.
MAX_OUTGOING = 1_000
#: Two hundred levels of fifty symbols fit in a tenth of it; more is a fault of the server.
MAX_FRAME_BYTES = 2 * 1024 * 1024
_BODY_BYTES = 4_096

OnData = Callable[[Topic, Message, float], None]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the vendor's live side is, and the key to it.

    Attributes:
        url: WebSocket address without a query, such as ``wss://api.tickdb.ai/v1/realtime``.
        rest_url: REST address, for the list of connections.
        key: Never printed.
    """

    url: str
    rest_url: str
    key: SecretStr


class HandshakeRefusedError(Exception):
    """The server answered the handshake with something other than an upgrade. Holds no URL, so it is safe to print."""

    def __init__(self, status: int, code: int | str | None, retry_after_s: float | None) -> None:
        super().__init__(status, code, retry_after_s)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


class Driver:
    """Carries out what the session asks, and tells it what happens.

    Args:
        session: The connection's state; nobody else feeds it while the driver runs.
        endpoint: The vendor.
        on_data: Called for every message of a desired subscription: topic, message, monotonic time. Must not block.
        on_event: Called for everything the session tells. Must not block.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        *,
        on_data: OnData,
        on_event: OnEvent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self._endpoint = endpoint
        self._on_data = on_data
        self._on_event = on_event
        self._clock = clock
        self._http: aiohttp.ClientSession | None = None
        self._connection: asyncio.Task[None] | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[bool] | None = None
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(MAX_OUTGOING)
        self._opening = False
        self._wake = asyncio.Event()
        self._defect: BaseException | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the connection up until `stop` is set, then close it cleanly and return."""
        async with _http_session() as self._http:
            waker = asyncio.create_task(self._wake_at(stop), name="stream stop")
            self.session.start(self._clock())
            try:
                while self._defect is None and not (stop.is_set() and self.session.state is State.IDLE):
                    if stop.is_set():
                        self.session.stop(self._clock())
                    self.session.tick(self._clock())
                    self.pump()
                    await self._wait()
            finally:
                waker.cancel()
                await self._end()
            if self._defect is not None:
                raise self._defect

    def tell(self, change: Callable[[Session, float], None]) -> None:
        """Change the session from outside, such as by ``lambda session, now: session.reconnect(now)``."""
        change(self.session, self._clock())
        self.pump()

    def pump(self) -> None:
        """Hand on what happened, and carry out what the session asks."""
        for event in self.session.take_events():
            self._on_event(event)
            self._wake.set()
        for command in self.session.take_commands():
            self._carry_out(command)

    # carrying out

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Send):
            self._send(command.payload)
        elif isinstance(command, Connect):
            self._connection = asyncio.create_task(self._connect(self._connection), name="stream connection")
            self._connection.add_done_callback(self._note_defect)
        elif isinstance(command, Close):
            if self._websocket is not None:
                self._closing = asyncio.create_task(self._websocket.close(code=command.code), name="stream close")
        elif isinstance(command, Abort):
            self._abort()
        elif isinstance(command, Reap):
            self._reaping = asyncio.create_task(self._reap(), name="stream reap")

    def _send(self, payload: bytes) -> None:
        try:
            self._outgoing.put_nowait(payload)
        except asyncio.QueueFull:
            self._abort()

    def _abort(self) -> None:
        """Reset the connection, or give up the attempt. `shutdown` wakes the reader even where the peer is gone."""
        if self._opening and self._connection is not None:
            self._connection.cancel()
        if self._websocket is None:
            return
        handle = self._websocket.get_extra_info("socket")
        if handle is not None:
            with contextlib.suppress(OSError):  # it is gone already, which is what was wanted
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handle.shutdown(socket.SHUT_RDWR)

    async def _connect(self, before: asyncio.Task[None] | None) -> None:
        """Own one connection from its handshake to its end, and tell the session how it went."""
        if before is not None:
            await asyncio.wait([before])
        self._outgoing = asyncio.Queue(MAX_OUTGOING)
        session, http = self.session, self._http
        assert http is not None  # noqa: S101  # only `run` makes this task, inside its session
        code, reason = None, "attempt abandoned"
        try:
            self._opening = True
            try:
                websocket = await _open(http, self._endpoint, session.policy.close_timeout_s)
            finally:
                self._opening = False
            reason = await self._serve(websocket)
            code = websocket.close_code
        except HandshakeRefusedError as refusal:
            session.refused(
                self._clock(), status=refusal.status, code=refusal.code, retry_after_s=refusal.retry_after_s
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = type(error).__name__
        finally:
            session.lost(self._clock(), code, reason)  # changes nothing where a refusal has been told
            self.pump()

    async def _serve(self, websocket: aiohttp.ClientWebSocketResponse) -> str:
        """Read and send until the connection ends; return how it ended, with nothing of it left."""
        self._websocket = websocket
        sender = asyncio.create_task(self._send_all(websocket), name="stream sender")
        try:
            self.session.opened(self._clock())
            self.pump()
            return await self._read(websocket)
        finally:
            sender.cancel()
            await asyncio.wait([sender] if self._closing is None else [sender, self._closing])
            await websocket.close()
            self._websocket = self._closing = None

    async def _read(self, websocket: aiohttp.ClientWebSocketResponse) -> str:
        """Feed frames to the session until the connection ends; return how it ended."""
        session, on_data, clock = self.session, self._on_data, self._clock
        slice_ends = clock() + SLICE_S
        while True:
            frame = await websocket.receive()  # does not suspend while frames are buffered
            if frame.type is aiohttp.WSMsgType.TEXT or frame.type is aiohttp.WSMsgType.BINARY:
                now = clock()
                delivered = session.receive(frame.data, now)
                if delivered is not None:
                    on_data(delivered[0], delivered[1], now)
                if session.pending:
                    self.pump()
                if now > slice_ends:
                    await asyncio.sleep(0)
                    slice_ends = clock() + SLICE_S
            elif frame.type is aiohttp.WSMsgType.ERROR:
                return type(frame.data).__name__
            else:
                return "connection closed"

    async def _send_all(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            payload = await self._outgoing.get()
            try:
                await websocket.send_str(payload.decode())
            except (aiohttp.ClientError, OSError):
                self._abort()
                return

    async def _reap(self) -> None:
        """Close our own dead connections at the vendor; failing to is told as having closed none."""
        http = self._http
        assert http is not None  # noqa: S101  # only `run` makes this task, inside its session
        try:
            async with asyncio.timeout(self.session.policy.connect_timeout_s):
                closed = await _close_dead_connections(http, self._endpoint)
        except (aiohttp.ClientError, OSError, TimeoutError, ProtocolError):
            closed = 0
        self.session.reaped(self._clock(), closed)
        self.pump()

    def _note_defect(self, task: asyncio.Task[None]) -> None:
        """A connection that ended with an error of our own code ends the run: it would end every other one too."""
        if not task.cancelled() and task.exception() is not None:
            self._defect = self._defect or task.exception()
            self._wake.set()

    async def _wait(self) -> None:
        """Sleep until the next tick, the next attempt, or until something happens."""
        seconds = TICK_S
        if self.session.state is State.BACKOFF:
            seconds = min(seconds, max(0.0, self.session.retry_at - self._clock()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _end(self) -> None:
        """Leave no task behind, whatever ended the run."""
        tasks = [task for task in (self._connection, self._reaping, self._closing) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def _http_session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=None)  # the session's own deadlines rule
    async with aiohttp.ClientSession(timeout=timeout, middlewares=(_refuse_with_code,)) as http:
        yield http


async def _refuse_with_code(
    request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
) -> aiohttp.ClientResponse:
    """Read the vendor's code from a refused handshake, which aiohttp's own error would drop."""
    response = await handler(request)
    if request.headers.get("Upgrade", "").lower() != "websocket" or response.status == 101:
        return response
    try:
        async with asyncio.timeout(2.0):
            body = await response.content.read(_BODY_BYTES)
    except (aiohttp.ClientError, TimeoutError):
        body = b""
    response.close()
    raise HandshakeRefusedError(response.status, refusal_code(body), _seconds(response.headers.get("Retry-After")))


async def _open(
    http: aiohttp.ClientSession, endpoint: Endpoint, close_timeout_s: float
) -> aiohttp.ClientWebSocketResponse:
    websocket = await http.ws_connect(
        endpoint.url,
        params={"api_key": endpoint.key.get_secret_value()},
        heartbeat=None,
        max_msg_size=MAX_FRAME_BYTES,
        timeout=aiohttp.ClientWSTimeout(ws_close=close_timeout_s),
    )
    handle = websocket.get_extra_info("socket")
    if handle is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000)
    return websocket


def _seconds(value: str | None) -> float | None:
    """Read a Retry-After in seconds; a date is left to the policy's own wait."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


async def _close_dead_connections(http: aiohttp.ClientSession, endpoint: Endpoint) -> int:
    """Delete this key's connections that the vendor itself calls dead; never one that another process of ours uses."""
    headers = {"X-API-Key": endpoint.key.get_secret_value()}
    base = f"{endpoint.rest_url}/v1/connections"
    async with http.get(base, headers=headers, allow_redirects=False) as response:
        connections = read_connections(await response.read())
    closed = 0
    for connection in connections:
        if connection.status == "stale":
            address = f"{base}/{connection.id}"
            async with http.delete(address, headers=headers, allow_redirects=False) as response:
                closed += response.status == 200
    return closed
