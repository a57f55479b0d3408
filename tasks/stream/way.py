"""Who goes first on the event loop: a request that is being decided and sent, or the ticks that wait to be looked at.

An order takes several turns of the loop to leave, and each turn would look at some more ticks. They wait instead, for
some milliseconds at most, so that a slow exchange never holds the market data up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

#: The longest that ticks make way at a time.
LONGEST_S = 0.005


class Way:
    """The right of way, taken by whoever sends something and yielded by whoever looks at ticks.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._takers, self._since = 0, 0.0
        self._free = asyncio.Event()

    def take(self) -> None:
        """Go first until `leave`; several may, and the time of the first one counts."""
        if not self._takers:
            self._since = self._clock()
            self._free.clear()
        self._takers += 1

    def leave(self) -> None:
        """Have sent what there was to send, or decided not to."""
        self._takers -= 1
        if not self._takers:
            self._free.set()

    async def clear(self) -> None:
        """Return once nobody goes first, or somebody has for `LONGEST_S`."""
        left = self._since + LONGEST_S - self._clock()
        if self._takers and left > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._free.wait()
