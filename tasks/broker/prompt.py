"""Requests whose first byte leaves at once, or at the moment that is chosen for it.

Before Python 3.12 aiohttp writes a request with a body in a task of its own, which the event loop begins in its next
turn, after every tick that is waiting. It keeps the head of a request back until there is something of the body to send
along with it; a body that waits therefore holds the whole request, made and on a connection of its own.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter


class PromptRequest(aiohttp.ClientRequest):
    """A request that is written as far as the connection takes it before anything else gets its turn."""

    def write_bytes(self, *arguments: Any, **more: Any) -> Coroutine[Any, Any, None]:
        """Return what is left of writing the body."""
        return _begun(super().write_bytes(*arguments, **more))


class HeldBody(aiohttp.BytesPayload):
    """A body of JSON that waits.

    Args:
        value: What to send.
        until: Awaited before the request's first byte leaves; where it raises, none does.
    """

    def __init__(self, value: object, until: Callable[[], Awaitable[None]]) -> None:
        super().__init__(msgspec.json.encode(value), content_type="application/json")
        self._until = until

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Wait, then write."""
        await self._until()
        await super().write_with_length(writer, content_length)


def _begun(work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """Take a coroutine as far as it goes without waiting, and return the rest."""
    try:
        return _rest(work, work.send(None))
    except StopIteration:
        return _nothing()


async def _rest(work: Coroutine[Any, Any, None], waited_for: Any) -> None:
    await _carried_on(work, waited_for)


@types.coroutine
def _carried_on(work: Coroutine[Any, Any, None], waited_for: Any) -> Generator[Any, Any, None]:
    """Wait for what a begun coroutine wanted to wait for, then for the coroutine."""
    try:
        yield waited_for
    except BaseException as error:  # noqa: BLE001  (for the work, which waits for nothing after that)
        work.throw(error)
    yield from work.__await__()


async def _nothing() -> None:
    return
