"""The local market's private stream: kept up for as long as the broker is, with every break told to whoever listens."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import aiohttp
import msgspec
from pydantic import SecretStr

from tasks.broker.background import Background
from tasks.broker.evidence import read_fill, read_order
from tasks.broker.feed import ReportFeed
from tasks.broker.port import BrokerFill, BrokerOrder, Connected

#: Silence after which we ask for a sign of life, and twice of which means the link is dead.
_PING_S = 2.0
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
_CLOSING = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


class BrokenStreamError(Exception):
    """The stream cannot be read on. Holds neither URL nor header, so that it is safe to print."""


class PrivateStream(Background):
    """A connection that comes back.

    Args:
        url: REST address of the market.
        key: Never printed.
        feed: Where everything goes.
    """

    def __init__(self, url: str, key: SecretStr, feed: ReportFeed) -> None:
        super().__init__("private stream", self._run, feed)
        self._url = url
        self._key = key

    async def _run(self) -> None:
        failures = 0
        async with aiohttp.ClientSession(headers={"X-API-Key": self._key.get_secret_value()}) as http:
            while True:
                reason = await self._until_broken(http)
                failures = 0 if isinstance(self._feed.state, Connected) else failures + 1
                self._feed.broke(f"private stream: {reason}")
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    async def _until_broken(self, http: aiohttp.ClientSession) -> str:
        try:
            await self._read(http)
        except BrokenStreamError as error:
            return str(error)
        except (aiohttp.ClientError, OSError) as error:
            return type(error).__name__

    async def _read(self, http: aiohttp.ClientSession) -> NoReturn:
        """Hand on what comes until the link breaks, which raises."""
        async with http.ws_connect(f"{self._url}/v1/private", autoping=True) as socket:
            self._feed.came_up()
            asked = False
            while True:
                try:
                    message = await asyncio.wait_for(socket.receive(), _PING_S)
                except TimeoutError:
                    if asked:
                        raise BrokenStreamError(f"silent for {2 * _PING_S:g} s") from None
                    asked = True
                    await socket.send_str('{"cmd":"ping"}')
                    continue
                asked = False
                if message.type in _CLOSING:
                    raise BrokenStreamError(f"closed ({socket.close_code})")
                report = read_report(message.data)
                if report is not None:
                    self._feed.publish(report)


def read_report(text: str | bytes) -> BrokerOrder | BrokerFill | None:
    """Read a message, None for a pong.

    Raises:
        BrokenStreamError: It is none of the known kinds: what it said is lost, so that everything has to be asked for.
    """
    try:
        message = msgspec.json.decode(text)
        command, data = message["cmd"], message.get("data")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BrokenStreamError("an unreadable message") from None
    if command == "pong":
        return None
    report = read_order(data) if command == "order" else read_fill(data) if command == "fill" else None
    if report is None:
        raise BrokenStreamError("a message of an unknown kind or shape")
    return report
