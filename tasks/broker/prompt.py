"""Requests whose first byte leaves at once.

Before Python 3.12 aiohttp writes a request with a body in a task of its own, which the event loop begins in its next
turn, after every tick that is waiting.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any

import aiohttp


class PromptRequest(aiohttp.ClientRequest):
    """A request that is written as far as the connection takes it before anything else gets its turn."""

    def write_bytes(self, *arguments: Any, **more: Any) -> Coroutine[Any, Any, None]:
        """Return what is left of writing the body."""
        return _begun(super().write_bytes(*arguments, **more))


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
