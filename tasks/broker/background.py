"""What an adapter does for as long as it is open, in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tasks.broker.feed import ReportFeed


class Background:
    """A task that runs until it is closed; should it end by itself, listeners learn that the stream broke.

    Args:
        name: For whoever reads of its end.
        work: What it does, without end.
        feed: Whose listeners rely on it.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], feed: ReportFeed) -> None:
        self._name, self._work, self._feed = name, work, feed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless that was done before."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name=self._name)
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])  # what it ended with was told to listeners; closing goes on

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell of a defect of ours: silence would look like a quiet market."""
        if not task.cancelled() and task.exception() is not None:
            self._feed.broke(f"{self._name}: ended by {type(task.exception()).__name__}")
