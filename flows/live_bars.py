"""When a run's bars close, and whose: by each market's calendar, and by the market's own clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from flows.vendor import calendar_of
from lake.calendar import TradingCalendar
from lake.timeline import interval as interval_named

#: Seconds after a bar's close when it is asked for.
FOLLOW_AFTER_S = 5.0
#: Seconds until a bar is asked for again that the vendor had not yet: doubled while it is late.
_AGAIN_S, _LONGEST_S = 5.0, 80.0
#: How often the clock is looked at while a close is waited for: it may be set, or this machine stand still.
_LOOK_S = 1.0


class Bars:
    """The bars of a run's symbols as their markets make them.

    Args:
        symbols: In the vendor's spelling.
        interval: Length of a bar.
        now: The market's time.
        speed: How fast it goes by.
    """

    def __init__(
        self, symbols: Iterable[str], interval: str, *, now: Callable[[], datetime], speed: float = 1.0
    ) -> None:
        self._calendars = {symbol: TradingCalendar.parse(calendar_of(symbol)) for symbol in symbols}
        self._interval, self._step = interval, interval_named(interval)
        self._now, self._speed = now, speed
        self._known: dict[str, tuple[datetime, bool]] = {}  # the newest answer of each symbol

    def is_open(self, symbol: str) -> bool:
        """Return whether a symbol trades now."""
        return self._calendars[symbol].is_open(self._now())

    def has(self, symbol: str, opened: datetime) -> bool:
        """Return whether the bar that opens at a moment holds any trading hours; it may close long after the last."""
        calendar = self._calendars[symbol]
        if calendar.never_closes:
            return True
        known = self._known.get(symbol)
        if known is None or known[0] != opened:
            held = calendar.expected_opens(self._interval, opened, self._step.next(opened)).len() > 0
            known = self._known[symbol] = opened, held
        return known[1]

    async def closed(self) -> list[str]:
        """Wait until the bar that is being formed can be asked for; return the symbols that have one."""
        opened = self._step.floor(self._now())
        closes = self._step.next(opened)
        while (left := (closes - self._now()).total_seconds() + FOLLOW_AFTER_S) > 0:  # noqa: ASYNC110  (a clock has no event)
            await asyncio.sleep(min(left / self._speed, _LOOK_S))
        return await asyncio.to_thread(lambda: [one for one in self._calendars if self.has(one, opened)])


class Late:
    """Symbols whose newest bar did not come, although it was traded in: it is asked for again.

    Args:
        ask: Asks for the bars of symbols.
        speed: How fast the market's time goes by.
    """

    def __init__(self, ask: Callable[[list[str]], None], speed: float = 1.0) -> None:
        self._ask, self._speed = ask, speed
        self._waits: dict[str, float] = {}
        self._asked: set[str] = set()

    def look(self, symbol: str, *, missing: bool) -> None:
        """Take note whether a symbol's bar is missing, and ask for it again in a while if so."""
        if not missing:
            self._waits.pop(symbol, None)
        elif symbol not in self._asked:
            wait_s = self._waits.get(symbol, _AGAIN_S)
            self._waits[symbol] = min(2 * wait_s, _LONGEST_S)
            self._asked.add(symbol)
            asyncio.get_running_loop().call_later(wait_s / self._speed, self._again, symbol)

    def _again(self, symbol: str) -> None:
        self._asked.discard(symbol)
        self._ask([symbol])
