"""Requests are written at once, also those that the connection does not take whole."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tasks.broker.prompt import HeldBody, PromptRequest


class Peer:
    """Takes requests, reads them as slowly as it is told, and answers each with the length of its body."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other."""
        while head := await _head(reader):
            self.heads.append(head)
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await self.may_read.wait()
            body = await reader.readexactly(length)
            said = str(len(body)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A peer that listens."""
    peer = Peer()
    async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield peer


class Noted(PromptRequest):
    """Notes how much had been handed to the connection by the time `send` returned."""

    sizes: list[int]

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Send, and look."""
        response = await super().send(conn)
        assert response._stream_writer is not None
        self.sizes.append(response._stream_writer.output_size)
        return response


async def test_a_body_leaves_before_anything_else_gets_its_turn(peer: Peer) -> None:
    """The body is with the connection when the request was sent."""
    Noted.sizes = []
    peer.may_read.set()
    async with aiohttp.ClientSession(request_class=Noted) as http:
        for _ in range(2):
            async with http.post(peer.url, data=b"x" * 1000) as reply:
                assert await reply.read() == b"1000"
    assert len(Noted.sizes) == 2
    assert all(sent > 1000 for sent in Noted.sizes)


async def test_a_body_that_the_connection_does_not_take_whole_arrives_all_the_same(peer: Peer) -> None:
    """A body that has to wait for its peer is carried on with when the peer reads."""
    asyncio.get_running_loop().call_later(0.02, peer.may_read.set)
    async with (
        aiohttp.ClientSession(request_class=PromptRequest) as http,
        http.post(peer.url, data=io.BytesIO(b"x" * 8_000_000)) as reply,
    ):
        assert await reply.read() == b"8000000"


async def test_a_request_that_waits_for_its_peer_can_be_cancelled(peer: Peer) -> None:
    """A peer that does not read holds nobody: the wait ends, and the connection with it."""
    async with aiohttp.ClientSession(request_class=PromptRequest) as http:
        sending = asyncio.create_task(http.post(peer.url, data=io.BytesIO(b"x" * 20_000_000)))
        done, _ = await asyncio.wait([sending], timeout=0.1)
        assert not done
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        peer.may_read.set()
        async with http.post(peer.url, data=b"again") as reply:
            assert await reply.read() == b"5"


@pytest.mark.parametrize("request_class", [PromptRequest, aiohttp.ClientRequest])
async def test_a_held_request_leaves_whole_when_it_may(peer: Peer, request_class: type[aiohttp.ClientRequest]) -> None:
    """Neither head nor body leaves before, on a new connection and on one that was used; then both do at once."""
    peer.may_read.set()
    async with aiohttp.ClientSession(request_class=request_class) as http:
        for turn in range(2):
            waited_for, may_leave = asyncio.Event(), asyncio.Event()

            async def until(waited_for: asyncio.Event = waited_for, may_leave: asyncio.Event = may_leave) -> None:
                waited_for.set()
                await may_leave.wait()

            held = asyncio.create_task(_posted(http, peer, HeldBody({"a": 1}, until)))
            await waited_for.wait()
            assert await _posted(http, peer, b"1234567890") == b"10"  # a way there and back, beside it
            assert len(peer.heads) == 2 * turn + 1
            may_leave.set()
            assert await held == b"7"
            assert b"content-type: application/json" in peer.heads[-1].lower()


async def test_a_held_request_that_may_never_leave_does_not(peer: Peer) -> None:
    """What stops it is told, its connection ends, and the peer has heard nothing."""

    async def until() -> None:
        raise OSError("no disk")

    peer.may_read.set()
    async with aiohttp.ClientSession(request_class=PromptRequest) as http:
        with pytest.raises(aiohttp.ClientError):
            await _posted(http, peer, HeldBody({"a": 1}, until))
        assert await _posted(http, peer, b"12") == b"2"
    assert len(peer.heads) == 1


async def test_a_held_request_that_is_given_up_does_not_leave_later(peer: Peer) -> None:
    """A wait that is cancelled takes the request with it, whatever is allowed afterwards."""
    waited_for, may_leave = asyncio.Event(), asyncio.Event()

    async def until() -> None:
        waited_for.set()
        await may_leave.wait()

    peer.may_read.set()
    async with aiohttp.ClientSession(request_class=PromptRequest) as http:
        held = asyncio.create_task(_posted(http, peer, HeldBody({"a": 1}, until)))
        await waited_for.wait()
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        may_leave.set()
        assert await _posted(http, peer, b"12") == b"2"
    assert len(peer.heads) == 1


async def _posted(http: aiohttp.ClientSession, peer: Peer, data: object) -> bytes:
    async with http.post(peer.url, data=data) as reply:
        return await reply.read()
