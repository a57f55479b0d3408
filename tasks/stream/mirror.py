"""The hot state for other processes: bounded Redis streams of books and trades, off unless an address is set.

The mirror is a convenience, not a record: it never delays the stream, drops what Redis cannot take, and counts it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from pydantic import SecretStr
from redis import asyncio as redis
from redis.exceptions import RedisError

from tasks.stream.messages import Depth, Trades

log = structlog.get_logger(__name__)

Entry = dict[Any, Any]  #: field → value, as redis-py types it

MAX_WAITING = 10_000
#: Entries each Redis stream keeps, about.
KEPT = 10_000
BATCH = 500
RETRY_S = 5.0


class Mirror:
    """Copies messages to ``klinehouse:depth:<symbol>`` and ``klinehouse:trade:<symbol>``.

    Args:
        url: Redis' address, which may hold a password; None turns the mirror off.

    Attributes:
        sent: Entries Redis took.
        dropped: Entries lost because Redis was away or slow.
    """

    def __init__(self, url: SecretStr | None) -> None:
        self.sent = 0
        self.dropped = 0
        self._url = url
        self._waiting: asyncio.Queue[tuple[str, Entry]] = asyncio.Queue(MAX_WAITING)

    def put(self, symbol: str, message: object) -> None:
        """Queue one message of a symbol; anything but books and trades is left out."""
        if self._url is None:
            return
        if isinstance(message, Depth) and message.bids and message.asks:
            self._queue(f"klinehouse:depth:{symbol}", _book_entry(message))
        elif isinstance(message, Trades):
            for trade in message.trades:
                entry = {name: getattr(trade, name) for name in ("id", "price", "quantity", "side", "timestamp")}
                self._queue(f"klinehouse:trade:{symbol}", entry)

    async def run(self) -> None:
        """Send what is queued until cancelled."""
        if self._url is None:
            return
        async with redis.from_url(self._url.get_secret_value(), socket_timeout=5.0) as server:
            while True:
                batch = [await self._waiting.get()]
                while len(batch) < BATCH and not self._waiting.empty():
                    batch.append(self._waiting.get_nowait())
                await self._send(server, batch)

    async def _send(self, server: redis.Redis, batch: list[tuple[str, Entry]]) -> None:
        try:
            async with server.pipeline(transaction=False) as pipe:
                for stream, entry in batch:
                    pipe.xadd(stream, entry, maxlen=KEPT, approximate=True)
                await pipe.execute()
            self.sent += len(batch)
        except (RedisError, OSError) as error:
            self.dropped += len(batch)
            log.warning("mirror.delayed", dropped=self.dropped, reason=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    def _queue(self, stream: str, entry: Entry) -> None:
        try:
            self._waiting.put_nowait((stream, entry))
        except asyncio.QueueFull:
            self.dropped += 1


def _book_entry(depth: Depth) -> Entry:
    (bid, bid_size), (ask, ask_size) = depth.bids[0], depth.asks[0]
    return {"bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size, "timestamp": depth.timestamp}
