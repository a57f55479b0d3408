"""The market's own time: real time, a multiple of it, or as fast as the slowest reader takes."""

from __future__ import annotations

import math
import time
from datetime import datetime

from tasks.errors import InputError
from tasks.simulator.market import milliseconds


class MarketClock:
    """Milliseconds of market time that pass from `start` on, once started.

    Args:
        start: Where the time begins.
        speed: Market seconds in a real second. ``math.inf`` stands still between events: whoever plays the events
            moves it with `advance`, and goes as fast as its readers take them.
        end: Where the time stops; None for the end of the market's data.
        step_ms: How far ``math.inf`` goes at a time: a long step plays faster, a short one keeps the REST side closer.
    """

    def __init__(
        self, start: datetime, *, speed: float = 1.0, end: datetime | None = None, step_ms: int = 2_000
    ) -> None:
        if not speed > 0 or step_ms < 1:
            raise InputError(f"clock: expected a positive speed and step, found speed {speed} and step_ms {step_ms}")
        self.speed = speed
        self.step_ms = step_ms
        self._at = milliseconds(start)
        self._end = milliseconds(end) if end else None
        self._began: float | None = None

    @property
    def driven(self) -> bool:
        """Whether `advance` moves this clock instead of the passing of real time."""
        return math.isinf(self.speed)

    def stop_at(self, end_ms: int) -> None:
        """Let the time stop at `end_ms` at the latest."""
        self._end = end_ms if self._end is None else min(self._end, end_ms)

    def start(self) -> None:
        """Let the time pass; a second call changes nothing."""
        if self._began is None:
            self._began = time.monotonic()

    def advance(self, to_ms: int) -> None:
        """Move a driven clock forward to `to_ms`, never beyond its end."""
        self._at = max(self._at, self._bounded(to_ms))

    def __call__(self) -> int:
        """Return the market's time in milliseconds."""
        if self.driven or self._began is None:
            return self._bounded(self._at)
        return self._bounded(self._at + int((time.monotonic() - self._began) * 1000 * self.speed))

    def _bounded(self, moment_ms: int) -> int:
        return moment_ms if self._end is None else min(moment_ms, self._end)
