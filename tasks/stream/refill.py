"""After a gap: the missed bars are fetched by REST, one symbol at a time, until the lake is as if nothing had happened.

The room knows no REST client: whoever runs it passes a function that brings one symbol's closed bars up to date.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from tasks.errors import KlinehouseError, TransientError

log = structlog.get_logger(__name__)

#: Brings one symbol's closed bars in the lake up to now and returns how many were written.
Fill = Callable[[str], Awaitable[int]]

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


class Refill:
    """Symbols whose bars are to be fetched, those with a gap first.

    Args:
        fill: Fetches one symbol; waits for the shared rate budget by itself.
        on_filled: Called when a symbol is up to date. Must not block.

    Attributes:
        failed: Symbols given up, with the reason; the coverage ledger lists their bars as missing.
        written: Bars written so far.
    """

    def __init__(self, fill: Fill, on_filled: Callable[[str], None]) -> None:
        self._fill = fill
        self._on_filled = on_filled
        self._urgent: dict[str, None] = {}
        self._routine: dict[str, None] = {}
        self._wake = asyncio.Event()
        self.failed: dict[str, str] = {}
        self.written = 0

    def after_gap(self, symbol: str) -> None:
        """Ask for a symbol at once."""
        self._routine.pop(symbol, None)
        self._urgent[symbol] = None
        self._wake.set()

    def follow(self, symbols: Iterable[str]) -> None:
        """Ask for symbols when nothing is urgent, as after every bar that closes."""
        self._routine |= {symbol: None for symbol in symbols if symbol not in self._urgent}
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Symbols that are still to be fetched."""
        return len(self._urgent) + len(self._routine)

    async def run(self) -> None:
        """Fetch until cancelled. A passing fault is tried again with growing waits; the others give that symbol up."""
        wait_s = FIRST_WAIT_S
        while True:
            symbol = self._next()
            if symbol is None:
                self._wake.clear()
                await self._wake.wait()
            elif await self._filled(symbol):
                wait_s = FIRST_WAIT_S
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(2.0 * wait_s, LONGEST_WAIT_S)

    def _next(self) -> str | None:
        for queue in (self._urgent, self._routine):
            if queue:
                return next(iter(queue))
        return None

    async def _filled(self, symbol: str) -> bool:
        (self._urgent if symbol in self._urgent else self._routine).pop(symbol)
        try:
            self.written += await self._fill(symbol)
        except TransientError as error:
            self.follow([symbol])  # behind the others: a fault that lasts keeps none of them waiting
            log.warning("bars.fetch_delayed", symbol=symbol, reason=str(error))
            return False
        except KlinehouseError as error:
            self.failed[symbol] = str(error)
            log.error("bars.fetch_failed", symbol=symbol, reason=str(error))
        else:
            self.failed.pop(symbol, None)
        if symbol not in self._urgent:  # else a gap ended meanwhile, and its bars are still to come
            self._on_filled(symbol)
        return True
