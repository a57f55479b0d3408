"""The feed of reports: everyone hears everything, and who is too slow learns so."""

from __future__ import annotations

from tasks.broker.feed import ReportFeed
from tasks.broker.port import Connected, Disconnected


async def test_everyone_hears_everything_from_subscribing_on() -> None:
    """A listener hears the stream's state first, then what comes after it subscribed, even before it reads."""
    feed = ReportFeed()
    first = feed.subscribe()
    feed.publish(Connected())
    second = feed.subscribe()
    feed.publish(Disconnected("gone"))
    assert [await anext(first), await anext(first)] == [Connected(), Disconnected("gone")]
    assert [await anext(second), await anext(second)] == [Connected(), Disconnected("gone")]


async def test_a_slow_listener_is_told_to_ask_again() -> None:
    """More than the bound is never kept: the listener finds a break in its place, and the newest report after it."""
    feed = ReportFeed(most=3)
    slow = feed.subscribe()
    for number in range(4):
        feed.publish(Disconnected(str(number)))
    broke, back, newest = [await anext(slow) for _ in range(3)]
    assert isinstance(broke, Disconnected)
    assert "more than 3" in broke.reason
    assert (back, newest) == (Connected(), Disconnected("3"))
