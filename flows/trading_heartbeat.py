"""The broker's own dead man's switch: it hears of the desk at intervals, and cancels everything where it does not."""

from __future__ import annotations

import asyncio
from time import monotonic

from flows.trading_core import Core, log
from tasks.errors import KlinehouseError

#: Calls within one silence, so that one that is lost kills nothing.
_CALLS = 4
#: The last call must not hold up the end.
_PATIENCE_S = 2.0


class Heartbeat:
    """Tells the broker that the desk lives; where it has no such switch, nothing.

    Each call is made by a handler of the desk's own queue: a desk that hangs falls silent.

    Args:
        core: The desk's world.
        silence_s: After how long without a call the broker cancels everything; 0 never calls.
    """

    def __init__(self, core: Core, silence_s: float) -> None:
        self._core, self._silence_s = core, silence_s if core.broker.features.dead_man else 0.0
        self._due_at, self._is_lost = 0.0, False

    def beat(self) -> None:
        """Call where it is time to."""
        now = monotonic()
        if self._silence_s and now >= self._due_at:
            self._due_at = now + self._silence_s / _CALLS
            self._core.spawn(self._call(self._silence_s))

    async def end(self) -> None:
        """Call it off: what is still open shall stay. With an order in doubt it is left to the broker to cancel."""
        if self._silence_s and not self._core.doubts:
            await self._call(0.0)

    async def _call(self, silence_s: float) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._core.broker.cancel_all_after(silence_s)
        except (KlinehouseError, TimeoutError) as error:
            if not self._is_lost:  # said once: the broker's clock runs, and cancels, whatever we log
                log.warning("heartbeat.lost", broker=self._core.broker.name, error=f"{type(error).__name__}: {error}")
            self._is_lost = True
        else:
            self._is_lost = False
