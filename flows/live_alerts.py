"""Alerts on their way to people: the log at once, Prefect's notification blocks from a queue of their own.

A slow or broken messenger delays nobody: the queue is bounded, each message has a deadline, and what could not be sent
is logged. Halts and the connection's alarms are sent before any alert of pressure, and take no place of theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import structlog
from prefect.blocks.core import Block

from tasks.errors import ConfigurationError
from tasks.stream.monitor import Alert

log = structlog.get_logger("flows.live")

MAX_WAITING = 100
SEND_TIMEOUT_S = 20.0
#: How long the end of a run waits for what was told just before it.
LAST_WORDS_S = 3.0


class AlertSender:
    """Sends each alert once to every block.

    Args:
        names: Blocks as Prefect names them, ``<type>/<name>``; none sends to the log alone.

    Attributes:
        sent: Messages delivered.
        failed: Messages that a block could not deliver, or that the full queue refused.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.sent = 0
        self.failed = 0
        self._names = tuple(names)
        self._blocks: list[Any] = []
        self._unsent = 0
        self._number = 0
        self._waiting: asyncio.PriorityQueue[tuple[bool, int, str, str]] = asyncio.PriorityQueue(2 * MAX_WAITING)
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for name in self._names:
            try:
                self._blocks.append(await Block.aload(name))
            except ValueError as error:
                raise ConfigurationError(f"alert block: expected an existing Prefect block, found {name!r}") from error
        self._sending = asyncio.create_task(self._send_all(), name="alerts")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._waiting.join()
        self._sending.cancel()
        await asyncio.wait([self._sending])
        if self._unsent:
            self.failed += self._unsent
            log.warning("alerts.not_sent", alerts=self._unsent, reason="the run ended")

    def tell(self, alert: Alert) -> None:
        """Log an alert and queue it for the blocks."""
        log.warning("pressure.alerted", symbol=alert.symbol, pressure=alert.pressure, ratio=round(alert.ratio, 3))
        words = f"Ratio {alert.ratio:.2f} beyond {alert.threshold:g}; episode {alert.episode}."
        self._queue(f"{alert.symbol}: {alert.pressure} pressure", words, is_routine=True)

    def call(self, subject: str, body: str) -> None:
        """Queue words for the blocks, before every alert of pressure; whoever calls has logged them."""
        self._queue(subject, body, is_routine=False)

    def _queue(self, subject: str, body: str, *, is_routine: bool) -> None:
        if not self._blocks:
            return
        if self._waiting.qsize() >= (MAX_WAITING if is_routine else 2 * MAX_WAITING):
            self.failed += 1
            log.warning("alert.not_sent", subject=subject, reason="too many wait")
            return
        self._number += 1
        self._waiting.put_nowait((is_routine, self._number, subject, body))
        self._unsent += 1

    async def _send_all(self) -> None:
        while True:
            _, _, subject, body = await self._waiting.get()
            for block in self._blocks:
                await self._send(block, subject, body)
            self._unsent -= 1
            self._waiting.task_done()

    async def _send(self, block: Any, subject: str, body: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await block.notify(body, subject)
            self.sent += 1
        except Exception as error:  # noqa: BLE001  # a messenger may fail in any way, and none of it may stop the stream
            self.failed += 1
            log.warning("alert.not_sent", subject=subject, reason=type(error).__name__)
