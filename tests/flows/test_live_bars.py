"""Bars of a live run: which markets have one, and that a close is noticed by the market's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from flows.live_bars import Bars, Late

MONDAY = datetime(2026, 1, 12, tzinfo=UTC)
SYMBOLS = ["BTCUSDT", "NVDA.US", "600519.SH"]


class Leaping:
    """A clock that stands still until it is looked at again, and then is just past a moment."""

    def __init__(self, before: datetime, after: datetime) -> None:
        self._times = [before, before]
        self._after = after

    def __call__(self) -> datetime:
        """Return the time."""
        return self._times.pop() if self._times else self._after


@pytest.mark.parametrize(
    ("interval", "opened", "expected"),
    [
        ("1d", MONDAY, SYMBOLS),  # closes at midnight, when both exchanges are shut
        ("1d", MONDAY - timedelta(days=1), ["BTCUSDT"]),
        ("1w", MONDAY, SYMBOLS),
        ("1mo", datetime(2026, 1, 1, tzinfo=UTC), SYMBOLS),
        ("4h", MONDAY + timedelta(hours=20), ["BTCUSDT", "NVDA.US"]),  # the last hour of New York, closes at 24:00
        ("1h", MONDAY + timedelta(hours=3), ["BTCUSDT", "600519.SH"]),  # half an hour before Shanghai's lunch
        ("1h", MONDAY + timedelta(hours=4), ["BTCUSDT"]),
        ("1m", MONDAY + timedelta(hours=15), ["BTCUSDT", "NVDA.US"]),
    ],
)
async def test_a_bar_is_asked_for_where_it_holds_trading_hours(
    interval: str, opened: datetime, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the market has shut before the bar closes, as every daily bar of a stock does."""
    monkeypatch.setattr("flows.live_bars._LOOK_S", 0.01)
    closed = Bars(SYMBOLS, interval, now=lambda: opened)._step.next(opened) + timedelta(seconds=5)
    bars = Bars(SYMBOLS, interval, now=Leaping(closed - timedelta(seconds=5.01), closed))
    assert await asyncio.wait_for(bars.closed(), 5.0) == expected


async def test_a_close_that_a_standstill_hid_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine stood still, or its clock was set, nobody waits for the rest of an hour by another clock."""
    monkeypatch.setattr("flows.live_bars._LOOK_S", 0.01)
    clock = Leaping(MONDAY, MONDAY + timedelta(minutes=61))
    assert await asyncio.wait_for(Bars(["BTCUSDT"], "1h", now=clock).closed(), 5.0) == ["BTCUSDT"]


async def test_a_late_bar_is_asked_for_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, then after twice as long, once at a time; anew for the next bar that is late."""
    waits: list[float] = []
    asked: list[str] = []
    late = Late(lambda symbols: asked.extend(symbols), speed=2.0)

    def at_once(wait_s: float, call: Callable[[str], None], symbol: str) -> None:
        waits.append(wait_s)
        calls.append(lambda: call(symbol))

    calls: list[Callable[[], None]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", at_once)
    for _ in range(3):
        late.look("BTCUSDT", missing=True)
        late.look("BTCUSDT", missing=True)
        calls.pop()()
    late.look("BTCUSDT", missing=False)
    late.look("BTCUSDT", missing=True)
    assert waits == [2.5, 5.0, 10.0, 2.5]
    assert asked == ["BTCUSDT"] * 3
