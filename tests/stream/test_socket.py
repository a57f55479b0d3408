"""The driver against a server that breaks every rule, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from hostile_server import HostileServer, Peer, well
from pydantic import SecretStr
from stream_frames import DESIRED, answer, pong

from tasks.stream.events import Alarm, AlarmKind, Event, GapBegan, GapEnded, StateChanged
from tasks.stream.policy import SessionPolicy
from tasks.stream.session import Session
from tasks.stream.socket import Driver, Endpoint
from tasks.stream.states import State

CANARY = "canary-7f3a9c"
FAST = {"backoff_base_s": 0.001, "backoff_cap_s": 0.002, "connects_per_window": 100_000, "close_timeout_s": 0.3}


class Watched:
    """A running driver and everything it told."""

    def __init__(self, server: HostileServer, **policy: object) -> None:
        self.events: list[Event] = []
        self.messages = 0
        self.session = Session(
            DESIRED,
            policy=SessionPolicy(**{**FAST, **policy}),
            rng=Random(1),
            epoch_ms=time.time() * 1000 - time.monotonic() * 1000,
        )
        address = f"127.0.0.1:{server.port}"
        endpoint = Endpoint(f"ws://{address}/v1/realtime", f"http://{address}", SecretStr(CANARY))
        self.driver = Driver(self.session, endpoint, on_data=self._data, on_event=self._event)
        self._changed = asyncio.Event()

    def _data(self, topic: object, message: object, now: float) -> None:
        self.messages += 1
        self._changed.set()

    def _event(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until the condition holds, woken by whatever the driver tells."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await self._changed.wait()

    def of(self, kind: type) -> list:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@contextlib.asynccontextmanager
async def running(server: HostileServer, **policy: object) -> AsyncIterator[Watched]:
    """Run a driver against `server` for the length of the block, then stop it cleanly."""
    watched = Watched(server, **policy)
    stop = asyncio.Event()
    task = asyncio.create_task(watched.driver.run(stop))
    try:
        yield watched
    finally:
        stop.set()
        await asyncio.wait_for(task, 60.0)
        assert watched.session.state is State.IDLE


async def test_a_well_behaved_server_is_live_and_stops_clean() -> None:
    """Subscribed, delivering, pinged; a stop closes with a handshake and leaves no task behind."""
    before = asyncio.all_tasks()
    async with HostileServer(well) as server:
        async with running(server) as watched:
            await watched.until(lambda: watched.session.state is State.LIVE and watched.messages > 10)
        changes = watched.of(StateChanged)
        assert [change.after for change in changes[-2:]] == [State.CLOSING, State.IDLE]
    await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def cut(peer: Peer) -> None:
    """Serve until both subscriptions stand and have delivered, then reset."""
    await peer.obey_until(2)
    peer.reset()


async def finish(peer: Peer) -> None:
    """Serve, then end the TCP stream without a close frame."""
    await peer.obey_until(2)


async def close(peer: Peer) -> None:
    """Serve, then close with code 1012."""
    await peer.obey_until(2)
    peer.send(b"\x03\xf4", 8)
    await peer.writer.drain()
    await peer.receive()


async def tear(peer: Peer) -> None:
    """Serve, then cut in the middle of a frame."""
    await peer.obey_until(2)
    peer.writer.write(b"\x81\x7e\x02\x00half of a fra")
    await peer.writer.drain()
    peer.reset()


async def violate(peer: Peer) -> None:
    """Serve, then send a frame with reserved bits set."""
    await peer.obey_until(2)
    peer.writer.write(b"\xf1\x02hi")
    await peer.writer.drain()
    await peer.receive()


async def flood(peer: Peer) -> None:
    """Serve, then send a frame of five megabytes."""
    await peer.obey_until(2)
    with contextlib.suppress(ConnectionError):
        peer.send(b"[" + b" " * 5_000_000 + b"]")
        await peer.writer.drain()
        await peer.receive()


@pytest.mark.parametrize("behaviour", [cut, finish, close, tear, violate])
async def test_subscriptions_are_restored_after_every_kind_of_end(behaviour) -> None:
    """However a connection ends, the next one has every subscription again, and the outage is a gap."""
    async with HostileServer(behaviour) as server:
        async with running(server) as watched:
            await watched.until(lambda: len(watched.of(GapEnded)) >= 2 * 18)
        began, ended = watched.of(GapBegan), watched.of(GapEnded)
        assert len(began) - 2 <= len(ended) <= len(began)
        assert server.handshakes <= 25  # nearly each of them brought both back
        assert all(gap.start <= gap.end for gap in ended)


async def test_oversized_frames_end_the_connection_and_then_the_attempts() -> None:
    """A five-megabyte frame is not taken in; three in a row are for a person to look at."""
    async with HostileServer(flood) as server:
        async with running(server) as watched:
            await watched.until(lambda: watched.session.state is State.FATAL)
        assert server.handshakes == 3


async def test_many_disconnects_leak_nothing() -> None:
    """After three hundred resets the number of tasks and file descriptors is what it was after twenty."""
    async with HostileServer(cut) as server, running(server) as watched:
        await watched.until(lambda: server.handshakes >= 20)
        files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        await watched.until(lambda: server.handshakes >= 320, 120.0)
        assert len(os.listdir("/proc/self/fd")) <= files + 4
        assert len(asyncio.all_tasks()) <= tasks + 4


async def test_a_silent_server_is_left_and_replaced() -> None:
    """A server that stops reading and writing is noticed after dead_after_s, though its socket stays open."""
    released = asyncio.Event()

    async def freeze(peer: Peer) -> None:
        await peer.obey_until(2)
        await released.wait()

    async with HostileServer(freeze) as server:
        async with running(server, dead_after_s=0.5) as watched:
            await watched.until(lambda: watched.session.state is State.LIVE)
            server.behaviour = well
            await watched.until(lambda: server.handshakes >= 2 and watched.session.state is State.LIVE)
            assert any("no frame for 0.5 s" in change.reason for change in watched.of(StateChanged))
        released.set()


async def test_a_slow_drip_is_a_dead_link() -> None:
    """Bytes that never make a frame do not count as life."""

    async def drip(peer: Peer) -> None:
        await peer.obey_until(2)
        peer.writer.write(b"\x81\x7e\x7f\xff")
        for _ in range(1000):
            peer.writer.write(b" ")
            await peer.writer.drain()
            await asyncio.sleep(0.01)

    async with HostileServer(drip) as server, running(server, dead_after_s=0.5) as watched:
        await watched.until(lambda: server.handshakes >= 2)
        assert any("no frame for" in change.reason for change in watched.of(StateChanged))


async def test_a_refused_key_is_tried_once() -> None:
    """1001 in the handshake's body is final, whatever the status says."""
    async with HostileServer(well) as server:
        server.refusal = (400, b'{"code":1001,"message":"invalid key canary-7f3a9c"}', "")
        async with running(server) as watched:
            await watched.until(lambda: watched.session.state is State.FATAL)
            await asyncio.sleep(0.3)
        assert server.handshakes == 1
        assert [alarm.kind for alarm in watched.of(Alarm)] == [AlarmKind.DENIED]


async def test_accept_then_deny_is_tried_once() -> None:
    """1001 in the first frame is as final as in the handshake."""

    async def deny(peer: Peer) -> None:
        peer.send(answer(1001, "error"))
        await peer.writer.drain()
        await peer.receive()

    async with HostileServer(deny) as server:
        async with running(server) as watched:
            await watched.until(lambda: watched.session.state is State.FATAL)
            await asyncio.sleep(0.3)
        assert server.handshakes == 1


async def test_retry_after_of_the_handshake_is_honoured() -> None:
    """HTTP 429 with Retry-After sets the wait."""
    began = time.monotonic()
    async with HostileServer(well) as server:
        server.refusal = (429, b'{"code":3001}', "Retry-After: 40\r\n")
        async with running(server) as watched:
            await watched.until(lambda: watched.session.state is State.BACKOFF)
            assert watched.session.retry_at >= began + 40.0


async def test_garbage_changes_nothing() -> None:
    """Unreadable frames among good ones are counted and told, and the stream goes on."""

    async def garble(peer: Peer) -> None:
        await peer.obey_until(2)
        for number in range(200):
            peer.send([b"\x00\x01", b"[]", b'{"cmd":"depth"}', b'{"cmd":"new"}'][number % 4])
            peer.deliver()
        peer.send(bytes(range(256)), 2)
        peer.send(pong())
        await well(peer)

    async with HostileServer(garble) as server, running(server) as watched:
        await watched.until(lambda: watched.messages > 2 + 2 * 200)  # what comes after all the garbage
        assert watched.session.link.alarms.undecodable == 151
        assert server.handshakes == 1


async def test_a_defect_of_ours_ends_the_run() -> None:
    """An error in the consumer is not swallowed as one more disconnect."""
    async with HostileServer(well) as server:
        watched = Watched(server)

        def broken(topic: object, message: object, now: float) -> None:
            raise ZeroDivisionError

        watched.driver._on_data = broken
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(watched.driver.run(asyncio.Event()), 60.0)


async def test_the_key_is_nowhere(caplog, capfd) -> None:
    """After refusals, resets and garbage the key is in no event, log line or output, though the server echoed it."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)

    async def echo(peer: Peer) -> None:
        await peer.obey_until(2)
        peer.send(f'{{"cmd":"error","code":5000,"message":"{CANARY}"}}'.encode())
        peer.send(f'{{"cmd":"{CANARY}"}}'.encode())
        await peer.writer.drain()
        peer.reset()

    async with HostileServer(echo) as server:
        async with running(server) as watched:
            await watched.until(lambda: server.handshakes > 5)
            for status in (400, 401, 404, 500):
                server.refusal = (status, f'{{"code":5000,"message":"{CANARY}"}}'.encode(), "")
                seen = server.handshakes
                if status == 401:
                    server.refusal = (503, CANARY.encode(), "")
                await watched.until(lambda seen=seen: server.handshakes > seen + 2)
        assert any(CANARY in request for request in server.requests)
    told = "".join(map(repr, watched.events)) + caplog.text + "".join(capfd.readouterr())
    assert CANARY not in told
    assert CANARY not in repr(watched.driver.__dict__)


async def test_a_server_that_comes_back_is_used_at_the_next_attempt() -> None:
    """Refused connections are retried, never later than `backoff_cap_s`; once the server listens the stream is live."""
    async with HostileServer(well) as server, running(server, backoff_cap_s=0.5) as watched:
        server.refusal = (503, b"", "")
        await watched.until(lambda: server.handshakes > 3)
        server.refusal = None
        refused = server.handshakes
        assert watched.session.retry_at <= time.monotonic() + 0.5
        await watched.until(lambda: watched.session.state is State.LIVE)
        assert server.handshakes == refused + 1


async def test_a_busy_consumer_loses_nothing() -> None:
    """A loop stalled for a second neither drops frames nor the link."""
    async with HostileServer(well) as server, running(server) as watched:
        await watched.until(lambda: watched.session.state is State.LIVE)
        time.sleep(1.2)  # noqa: ASYNC251  # the stall is the test
        before = watched.messages
        await watched.until(lambda: watched.messages > before + 20)
        assert server.handshakes == 1


@pytest.mark.parametrize("deaf", [True, False])
async def test_a_stop_ends_though_the_server_ignores_the_close(deaf: bool) -> None:
    """A server that answers no close, or reads nothing at all, holds a stop up for the close's wait and no longer."""
    released = asyncio.Event()

    async def ignore(peer: Peer) -> None:
        await peer.obey_until(2)
        while not deaf:
            await peer.receive()
        await released.wait()

    async with HostileServer(ignore) as server:
        watched, stop = Watched(server), asyncio.Event()
        task = asyncio.create_task(watched.driver.run(stop))
        await watched.until(lambda: watched.session.state is State.LIVE)
        stop.set()
        await asyncio.wait_for(task, 20.0)
        assert watched.session.state is State.IDLE
        released.set()


async def test_a_handshake_that_never_ends_is_abandoned() -> None:
    """A server that accepts the connection and says nothing is left after connect_timeout_s, and tried again."""
    silent = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with HostileServer(well) as server:
        server.port = listening.sockets[0].getsockname()[1]
        async with running(server, connect_timeout_s=0.2) as watched:
            await watched.until(lambda: watched.session.connects >= 3)
    silent.set()
    listening.close()
