"""Reports on their way to whoever listens, bounded: a listener that falls behind is told to ask again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tasks.broker.port import Connected, Disconnected, Report

_MOST = 10_000


class ReportFeed:
    """Fans reports out. Nothing is kept for whoever subscribes later.

    Args:
        most: Reports that may wait for one listener.

    Attributes:
        state: The stream's own state, which a new listener hears first; None where none is known yet.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self.state: Connected | Disconnected | None = None
        self._listeners: set[asyncio.Queue[Report]] = set()

    def publish(self, *reports: Report) -> None:
        """Hand reports to every listener; one that has too many waiting loses them all and learns so."""
        for report in reports:
            if isinstance(report, Connected | Disconnected):
                self.state = report
        for queue in self._listeners:
            for report in reports:
                if queue.full():
                    while not queue.empty():
                        queue.get_nowait()
                    queue.put_nowait(Disconnected(f"more than {self._most} reports were waiting to be read"))
                    queue.put_nowait(Connected())
                queue.put_nowait(report)

    def came_up(self) -> None:
        """Tell that the stream is up, once each time."""
        if not isinstance(self.state, Connected):
            self.publish(Connected())

    def broke(self, reason: str) -> None:
        """Tell that the stream broke, once and not at every attempt to mend it."""
        if not isinstance(self.state, Disconnected):
            self.publish(Disconnected(reason))

    def subscribe(self) -> AsyncIterator[Report]:
        """Return what is published from this call on, not from the first read."""
        queue: asyncio.Queue[Report] = asyncio.Queue(self._most)
        if self.state is not None:
            queue.put_nowait(self.state)
        self._listeners.add(queue)
        return self._drain(queue)

    async def _drain(self, queue: asyncio.Queue[Report]) -> AsyncIterator[Report]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
